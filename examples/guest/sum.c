/* SPDX-License-Identifier: Apache-2.0
 *
 * Rewrites a buffer without a rest, word by word, round by round. What a word has to be follows from the round and its place, so that a page of
 * another moment than the rest of the machine shows: at the latest when the word is rewritten, or at once when "check" is typed.
 *
 * A page of its own begins with a magic word and has a number that counts on every few microseconds: whoever watches it from outside sees the guest stand still. */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORDS (24u << 20 >> 3) /* 24 MiB */
#define STRIDE 4096u           /* words between two looks at the console and the clock */
#define BEAT 64u               /* words between two beats, a power of 2 */

static uint64_t words[WORDS] __attribute__((aligned(4096)));
static uint64_t round_now = 1; /* words before `place` are of this round, the others of the one before */
static uint32_t place;
static uint64_t sum; /* of all words */
static uint64_t bad;
static struct {
	char magic[16];
	volatile uint64_t beats;
} pulse __attribute__((aligned(4096)));

static uint64_t expected(uint64_t round, uint32_t i)
{
	uint64_t x = round * 0x9e3779b97f4a7c15u + i;
	x ^= x >> 31;
	return x * 0xbf58476d1ce4e5b9u;
}

static void check(void)
{
	uint64_t total = 0, wrong = 0;
	for (uint32_t i = 0; i < WORDS; i++) {
		total += words[i];
		wrong += words[i] != expected(round_now - (i >= place), i);
	}
	if (wrong || bad || total != sum)
		printf("sum BAD: %llu wrong now, %llu before, total %s, round %llu\n", (unsigned long long)wrong, (unsigned long long)bad,
			total == sum ? "right" : "wrong", (unsigned long long)round_now);
	else
		printf("sum ok: %u words, round %llu\n", WORDS, (unsigned long long)round_now);
}

static void rewrite(void)
{
	for (uint32_t n = 0; n < STRIDE; n++) {
		uint64_t new = expected(round_now, place);
		bad += words[place] != expected(round_now - 1, place);
		sum += new - words[place];
		words[place] = new;
		pulse.beats += n % BEAT == 0;
		if (++place == WORDS) {
			place = 0;
			round_now++;
		}
	}
}

static void tick(void)
{
	static uint64_t last, ticks;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	uint64_t now = (uint64_t)t.tv_sec * 5 + (uint64_t)t.tv_nsec / 200000000;
	if (now != last)
		printf("tick %llu\n", (unsigned long long)++ticks);
	last = now;
}

int main(void)
{
	char line[128];
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (uint32_t i = 0; i < WORDS; i++)
		sum += words[i] = expected(0, i);
	memcpy(pulse.magic, "forkfs pulse 1\n", sizeof pulse.magic);
	printf("sum ready\n");
	for (;;) {
		struct pollfd in = {.fd = 0, .events = POLLIN};
		if (poll(&in, 1, 0) > 0) {
			ssize_t n = read(0, line, sizeof line - 1);
			if (n > 0 && memchr(line, 'c', (size_t)n)) /* "check" is all there is to say */
				check();
			else if (n > 0 && memchr(line, 'p', (size_t)n)) /* "poweroff" */
				return 0;
		}
		rewrite();
		tick();
	}
}
