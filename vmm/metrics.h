/* SPDX-License-Identifier: Apache-2.0
 *
 * What is counted over the daemon's life. Loop only. */
#ifndef FORKFS_METRICS_H
#define FORKFS_METRICS_H

#include <stdint.h>

#include "vmm/base/text.h"

#define METRICS_BUCKETS 14
#define METRICS_REASONS 24

/* A Prometheus histogram of seconds. */
struct histogram {
	uint64_t bucket[METRICS_BUCKETS]; /* not cumulative */
	uint64_t count;
	double sum;
};

struct metrics {
	uint64_t restores, boots, snapshots;
	struct histogram restore_seconds, snapshot_seconds, stop_seconds;
	struct reason {
		int code; /* errno */
		uint64_t count;
	} failures[METRICS_REASONS]; /* of restores and boots; the last takes what finds no room */
};

void metrics_observe(struct histogram *h, double seconds);
void metrics_fail(struct metrics *m, int code);

struct forks;

/* Prometheus' text format, version 0.0.4. */
void metrics_print(const struct forks *all, struct text *t);

#endif
