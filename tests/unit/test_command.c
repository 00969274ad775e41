/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "fs/command.h"

static struct failure why;

static int parse(struct command *ret, const char *line)
{
	return command_parse(ret, line, strlen(line), &why);
}

Test(command, words)
{
	struct command c;

	cr_assert_eq(parse(&c, " /forks/base/snapshots/ready\t20  worker- \n"), 0, "%s", why.text);
	cr_assert_eq(c.words, 3);
	cr_assert_str_eq(c.word[0], "/forks/base/snapshots/ready");
	cr_assert_str_eq(c.word[1], "20");
	cr_assert_str_eq(c.word[2], "worker-");
	cr_assert_eq(parse(&c, "running"), 0);
	cr_assert_eq(c.words, 1);
	cr_assert_str_eq(c.word[0], "running");
	cr_assert_eq(parse(&c, "1 2 3 4 5 6 7 8\n"), 0);
	cr_assert_eq(c.words, 8);
	cr_assert_str_eq(c.word[7], "8");
}

/* The words point into the command itself, not into what was parsed or a copy of it. */
Test(command, words_are_in_the_line)
{
	char line[] = "one two\n";
	struct command c;

	cr_assert_eq(parse(&c, line), 0);
	memset(line, 'x', sizeof line - 1);
	cr_assert_str_eq(c.word[1], "two");
	cr_assert(c.word[0] == c.line);
}

Test(command, escapes)
{
	struct command c;

	cr_assert_eq(parse(&c, "/a\\040b\\011c\\134d\\012 \\377\\001\n"), 0, "%s", why.text);
	cr_assert_eq(c.words, 2);
	cr_assert_str_eq(c.word[0], "/a b\tc\\d\n");
	cr_assert_str_eq(c.word[1], "\377\001");
	cr_assert_eq(parse(&c, "\\ a\\b \\04 \\048 \\"), 0);
	cr_assert_eq(c.words, 5);
	cr_assert_str_eq(c.word[0], "\\");
	cr_assert_str_eq(c.word[1], "a\\b");
	cr_assert_str_eq(c.word[2], "\\04");
	cr_assert_str_eq(c.word[3], "\\048");
	cr_assert_str_eq(c.word[4], "\\");
	cr_assert_eq(parse(&c, "\\134040"), 0);
	cr_assert_str_eq(c.word[0], "\\040", "decoded once");
}

Test(command, refused)
{
	static const struct {
		const char *data;
		size_t n;
		const char *text;
	} cases[] = {
		{ "", 0, "blank" },
		{ "\n", 1, "blank" },
		{ " \t \n", 4, "blank" },
		{ "a\nb\n", 4, "several lines" },
		{ "a\n\n", 3, "several lines" },
		{ "\na", 2, "several lines" },
		{ "a\0b", 3, "NUL" },
		{ "a\0", 2, "NUL" },
		{ "a\\000b", 6, "escape" },
		{ "a\\400b", 6, "escape" },
		{ "1 2 3 4 5 6 7 8 9", 17, "8 words" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct command c = { .words = 77 };

		cr_assert_eq(command_parse(&c, cases[i].data, cases[i].n, &why), -EINVAL, "case %zu", i);
		cr_assert(strstr(why.text, cases[i].text), "case %zu: %s", i, why.text);
		cr_assert_eq(c.words, 77);
	}
}

Test(command, longest)
{
	static char line[COMMAND_MAX + 1];
	struct command c;

	memset(line, 'x', sizeof line);
	line[COMMAND_MAX - 1] = '\n';
	cr_assert_eq(command_parse(&c, line, COMMAND_MAX, &why), 0);
	cr_assert_eq(strlen(c.word[0]), COMMAND_MAX - 1);
	line[COMMAND_MAX - 1] = 'x';
	cr_assert_eq(command_parse(&c, line, COMMAND_MAX, &why), 0);
	cr_assert_eq(strlen(c.word[0]), COMMAND_MAX);
	line[COMMAND_MAX] = '\n';
	cr_assert_eq(command_parse(&c, line, COMMAND_MAX + 1, &why), -EINVAL);
}

Test(command, number)
{
	unsigned long n = 77;
	char most[32];

	cr_assert_eq(command_number("20", 1, 20, &n), 0);
	cr_assert_eq(n, 20);
	cr_assert_eq(command_number("007", 1, 20, &n), 0);
	cr_assert_eq(n, 7);
	cr_assert_eq(command_number("0", 1, 20, &n), -EINVAL);
	cr_assert_eq(command_number("21", 1, 20, &n), -EINVAL);
	cr_assert_eq(command_number("", 0, 20, &n), -EINVAL);
	cr_assert_eq(command_number("+1", 0, 20, &n), -EINVAL);
	cr_assert_eq(command_number("-1", 0, ULONG_MAX, &n), -EINVAL);
	cr_assert_eq(command_number("1x", 0, 20, &n), -EINVAL);
	cr_assert_eq(command_number(" 1", 0, 20, &n), -EINVAL);
	cr_assert_eq(command_number("0x1", 0, 20, &n), -EINVAL);
	cr_assert_eq(command_number("18446744073709551617", 0, 20, &n), -EINVAL, "2^64 + 1 is not 1");
	cr_assert_eq(command_number("99999999999999999999999", 0, ULONG_MAX, &n), -EINVAL);
	cr_assert_eq(n, 7);
	snprintf(most, sizeof most, "%lu", ULONG_MAX);
	cr_assert_eq(command_number(most, 0, ULONG_MAX, &n), 0);
	cr_assert_eq(n, ULONG_MAX);
}
