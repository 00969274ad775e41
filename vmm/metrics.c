/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/metrics.h"

#include <stdio.h>
#include <string.h>

#include "vmm/fork.h"
#include "vmm/host.h"
#include "vmm/pool.h"
#include "vmm/template.h"

static const double bounds[METRICS_BUCKETS - 1] = { .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 30 };

void metrics_observe(struct histogram *h, double seconds)
{
	size_t i = 0;

	while (i < ARRAY_LEN(bounds) && seconds > bounds[i])
		i++;
	h->bucket[i]++;
	h->count++;
	h->sum += seconds;
}

void metrics_fail(struct metrics *m, int code)
{
	size_t i = 0;

	while (i + 1 < METRICS_REASONS && m->failures[i].code && m->failures[i].code != code)
		i++;
	m->failures[i].code = code;
	m->failures[i].count++;
}

static void head(struct text *t, const char *name, const char *type, const char *help)
{
	text_printf(t, "# HELP forkfs_%s %s\n# TYPE forkfs_%s %s\n", name, help, name, type);
}

static void print_histogram(struct text *t, const char *name, const char *help, const struct histogram *h)
{
	uint64_t sum = 0;

	head(t, name, "histogram", help);
	for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
		sum += h->bucket[i];
		text_printf(t, "forkfs_%s_bucket{le=\"%g\"} %20llu\n", name, bounds[i], (unsigned long long)sum);
	}
	text_printf(t, "forkfs_%s_bucket{le=\"+Inf\"} %20llu\nforkfs_%s_sum %20.6f\nforkfs_%s_count %20llu\n", name, (unsigned long long)h->count,
		    name, h->sum, name, (unsigned long long)h->count);
}

static void print_counter(struct text *t, const char *name, const char *help, uint64_t value)
{
	head(t, name, "counter", help);
	text_printf(t, "forkfs_%s %20llu\n", name, (unsigned long long)value);
}

static void print_forks(const struct forks *all, struct text *t)
{
	unsigned int by_state[FORK_STATES] = { 0 };
	uint64_t promised = 0, used = 0;
	struct fork *f;

	list_for_each(f, &all->list, link) {
		by_state[f->state]++;
		promised += f->ram.size;
		used += fork_memory(f);
	}
	head(t, "forks", "gauge", "Forks by state.");
	for (int i = 0; i < FORK_STATES; i++)
		text_printf(t, "forkfs_forks{state=\"%s\"} %10u\n", fork_state_name(i), by_state[i]);
	head(t, "guest_memory_bytes", "gauge", "RAM that the guests have been promised.");
	text_printf(t, "forkfs_guest_memory_bytes %20llu\n", (unsigned long long)promised);
	head(t, "guest_memory_used_bytes", "gauge", "Memory that the guests' own memfds take.");
	text_printf(t, "forkfs_guest_memory_used_bytes %20llu\n", (unsigned long long)used);
}

static void print_failures(const struct metrics *m, struct text *t)
{
	head(t, "restore_failures_total", "counter", "Restores and boots that failed, by reason.");
	for (size_t i = 0; i < METRICS_REASONS && m->failures[i].code; i++)
		text_printf(t, "forkfs_restore_failures_total{reason=\"%s\"} %20llu\n", strerrorname_np(m->failures[i].code) ?: "other",
			    (unsigned long long)m->failures[i].count);
}

static void print_gauge(struct text *t, const char *name, const char *help, uint64_t value)
{
	head(t, name, "gauge", help);
	text_printf(t, "forkfs_%s %20llu\n", name, (unsigned long long)value);
}

static void print_pool(const struct forks *all, struct text *t)
{
	struct pool_counts pool;
	unsigned int templates, used;
	uint64_t bytes;

	pool_count(all->pool, &pool);
	template_count(&templates, &used, &bytes);
	print_gauge(t, "pool_waiting", "VMMs that wait for a guest.", pool.idle);
	print_gauge(t, "pool_loaded", "Guests that wait, loaded and stopped.", pool.loaded);
	print_gauge(t, "pool_bytes", "Memory that what waits takes for itself.", pool.bytes);
	print_counter(t, "pool_hits_total", "Restores that found a VMM waiting.", pool.hits);
	print_counter(t, "pool_loaded_hits_total", "Restores that found their very guest waiting.", pool.loaded_hits);
	print_counter(t, "pool_misses_total", "Restores that had to start one.", pool.misses);
	print_gauge(t, "templates", "Templates in memory.", templates);
	print_gauge(t, "templates_used", "Templates that forks share.", used);
	print_gauge(t, "template_bytes", "Memory that the templates take.", bytes);
}

static void print_daemon(struct text *t)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f && fscanf(f, "%*u %lu", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	head(t, "daemon_resident_bytes", "gauge", "Resident memory of the daemon.");
	text_printf(t, "forkfs_daemon_resident_bytes %20lu\n", pages * (unsigned long)sysconf(_SC_PAGESIZE));
}

void metrics_print(const struct forks *all, struct text *t)
{
	const struct metrics *m = &all->metrics;
	uint64_t available, total;

	head(t, "info", "gauge", "The version of the daemon.");
	text_puts(t, "forkfs_info{version=\"" FORKFS_VERSION "\"} 1\n");
	print_forks(all, t);
	print_counter(t, "restores_total", "Forks restored from a snapshot.", m->restores);
	print_counter(t, "boots_total", "Forks booted.", m->boots);
	print_counter(t, "snapshots_total", "Snapshots taken.", m->snapshots);
	print_failures(m, t);
	print_histogram(t, "restore_seconds", "Time from the arrival of the write to the guest running.", &m->restore_seconds);
	print_histogram(t, "snapshot_seconds", "Time that a snapshot took.", &m->snapshot_seconds);
	print_histogram(t, "snapshot_stop_seconds", "Time that a running guest stood still for a snapshot.", &m->stop_seconds);
	print_pool(all, t);
	host_memory(&available, &total);
	head(t, "host_memory_available_bytes", "gauge", "MemAvailable of the host.");
	text_printf(t, "forkfs_host_memory_available_bytes %20llu\n", (unsigned long long)available);
	print_daemon(t);
}
