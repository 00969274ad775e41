/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/command.h"

#include <stdbool.h>
#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Takes the byte at *at, maybe an escaped one, and moves on. Returns the byte, or -1 for one that can't be. */
static int take_byte(const char **at, const char *end)
{
	const char *s = *at;
	int byte;

	if (s[0] != '\\' || end - s < 4 || !is_octal(s[1]) || !is_octal(s[2]) || !is_octal(s[3])) {
		*at += 1;
		return (unsigned char)s[0];
	}
	byte = (s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0');
	*at += 4;
	return byte && byte <= 0xff ? byte : -1;
}

static int check_line(const char *data, size_t n, struct failure *why)
{
	if (n > COMMAND_MAX)
		return fail(why, EINVAL, "a command has at most %d bytes", COMMAND_MAX);
	if (memchr(data, '\0', n))
		return fail(why, EINVAL, "a command has no NUL");
	if (n && memchr(data, '\n', n - 1))
		return fail(why, EINVAL, "one write is one command: there are several lines");
	return 0;
}

/* Splits [at, end), which fits the line: no byte becomes more than one, and the NULs stand where a blank or the newline was, or behind all. */
static int split(struct command *c, const char *at, const char *end, struct failure *why)
{
	char *to = c->line;

	while (at < end) {
		if (is_blank(*at)) {
			at++;
			continue;
		}
		if (c->words == COMMAND_WORDS)
			return fail(why, EINVAL, "a command has at most %d words", COMMAND_WORDS);
		c->word[c->words++] = to;
		while (at < end && !is_blank(*at)) {
			int byte = take_byte(&at, end);

			if (byte < 0)
				return fail(why, EINVAL, "an escape is \\001 to \\377");
			*to++ = (char)byte;
		}
		*to++ = '\0';
	}
	return c->words ? 0 : fail(why, EINVAL, "a blank line is no command");
}

int command_parse(struct command *ret, const char *data, size_t n, struct failure *why)
{
	struct command c = { 0 };
	int r = check_line(data, n, why);

	if (r < 0)
		return r;
	if (n && data[n - 1] == '\n')
		n--;
	r = split(&c, data, data + n, why);
	if (r < 0)
		return r;
	*ret = c;
	for (size_t i = 0; i < c.words; i++)
		ret->word[i] = ret->line + (c.word[i] - c.line);
	return 0;
}

int command_number(const char *word, unsigned long min, unsigned long max, unsigned long *ret)
{
	unsigned long n = 0;

	if (!*word)
		return -EINVAL;
	for (; *word; word++) {
		if (*word < '0' || *word > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(n, 10ul, &n) || __builtin_add_overflow(n, (unsigned long)(*word - '0'), &n))
			return -EINVAL;
	}
	if (n < min || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}
