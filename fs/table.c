/* SPDX-License-Identifier: Apache-2.0
 *
 * Every file there is, one row each. */
#include <sys/stat.h>

#include "fs/files.h"

#define DIR S_IFDIR
#define FILE_(mode) (S_IFREG | (mode))

const struct row table[] = {
	[ROW_ROOT] = { "", PLACE_NONE, PLACE_ROOT, DIR | 0755, .help = "" },
	[ROW_SHOT] = { "", PLACE_NONE, PLACE_SHOT, DIR | 0700, .help = "" },
	[ROW_FORK] = { "", PLACE_NONE, PLACE_FORK, DIR | 0700, .help = "" },

	{ "help", PLACE_ROOT, .mode = FILE_(0444), .kind = &text_kind, .render = render_help, .help = "this text" },
	{ "clone", PLACE_ROOT, .mode = FILE_(0666), .waits = true, .kind = &clone_kind, .render = render_nothing, .command = command_none,
	  .help = "a conversation: `read id <> clone` makes an empty fork and gives its id" },
	{ "restore", PLACE_ROOT, .mode = FILE_(0666), .waits = true, .kind = &many_kind, .render = render_nothing,
	  .command = command_restore_many,
	  .help = "write \"SNAPSHOT COUNT [PREFIX]\": PREFIX0 … at once, all or nothing; as a conversation it answers with the ids" },
	{ "error", PLACE_ROOT, .mode = FILE_(0444), .kind = &text_kind, .render = render_root_error,
	  .help = "your last failure at the root, as a sentence" },
	{ "events", PLACE_ROOT, .mode = FILE_(0666), .kind = &events_kind,
	  .help = "one JSON object a line, of your own forks; a conversation follows it" },
	{ "metrics", PLACE_ROOT, .mode = FILE_(0444), .kind = &text_kind, .render = render_metrics, .help = "Prometheus text format" },
	{ "doctor", PLACE_ROOT, .mode = FILE_(0444), .kind = &doctor_kind, .help = "what the host offers: ok|warn|fail NAME DETAIL" },
	{ "config", PLACE_ROOT, PLACE_CONFIG, DIR | 0755, .help = "defaults for new forks and limits of the daemon, one value a file" },
	{ "*", PLACE_CONFIG, .mode = FILE_(0644), .kind = &text_kind, .render = render_config, .command = command_config, .help = "" },

	{ "restore", PLACE_FORK, .mode = FILE_(0600), .waits = true, .kind = &text_kind, .render = render_restore, .command = command_restore,
	  .help = "write a snapshot's path: restore it here; read: the snapshot in use" },
	{ "boot", PLACE_FORK, .mode = FILE_(0600), .waits = true, .kind = &text_kind, .render = render_nothing, .command = command_boot,
	  .help = "write a VM description's path (Firecracker's --config-file JSON): cold boot" },
	{ "state", PLACE_FORK, .mode = FILE_(0600), .waits = true, .kind = &state_kind, .render = render_state, .command = command_state,
	  .help = "empty|restoring|running|paused|exited|failed; write running, paused or stopped" },
	{ "status", PLACE_FORK, .mode = FILE_(0400), .kind = &text_kind, .render = render_status, .help = "Key:<tab>value lines" },
	{ "maps", PLACE_FORK, .mode = FILE_(0400), .kind = &text_kind, .render = render_maps,
	  .help = "the VMM's /proc/PID/maps: guest RAM shows as rw-s … memfd:" },
	{ "mem", PLACE_FORK, .mode = FILE_(0600), .kind = &mem_kind,
	  .help = "guest RAM, laid out as in memory.bin: seekable, sparse; written where config/mem_write is 1" },
	{ "dirty", PLACE_FORK, .mode = FILE_(0400), .kind = &dirty_kind, .help = "OFFSET LENGTH lines: the ranges of mem that changed since the restore" },
	{ "console", PLACE_FORK, .mode = FILE_(0600), .waits = true, .kind = &console_kind,
	  .help = "the serial console: what it printed; write types into it; a conversation follows it" },
	{ "log", PLACE_FORK, .mode = FILE_(0400), .kind = &log_kind, .help = "the VMM's own messages" },
	{ "error", PLACE_FORK, .mode = FILE_(0400), .kind = &text_kind, .render = render_error, .help = "the last failure, as a sentence" },
	{ "wait", PLACE_FORK, .mode = FILE_(0600), .waits = true, .kind = &wait_kind, .render = render_wait, .command = command_wait,
	  .help = "write a state's name: returns when the VM has reached it; as a conversation: how the VM ended" },
	{ "config", PLACE_FORK, PLACE_FORK_CONFIG, DIR | 0700, .help = "settings of this fork, one value a file" },
	{ "*", PLACE_FORK_CONFIG, .mode = FILE_(0600), .kind = &text_kind, .render = render_config, .command = command_config, .help = "" },
	{ "snapshots", PLACE_FORK, PLACE_SNAPSHOTS, DIR | 0700, .help = "mkdir NAME takes a snapshot of the VM" },

	{ "memory.bin", PLACE_SHOT, .mode = FILE_(0400), .kind = &member_kind, .help = "guest RAM, sparse" },
	{ "vmstate", PLACE_SHOT, .mode = FILE_(0400), .kind = &member_kind, .help = "device state, as the VMM wrote it" },
	{ "snapshot.json", PLACE_SHOT, .mode = FILE_(0400), .kind = &member_kind, .help = "the recipe" },
	{ "workingset", PLACE_SHOT, .mode = FILE_(0400), .kind = &member_kind, .help = "the pages that its children asked for, once that is known" },
	{ "state", PLACE_SHOT, .mode = FILE_(0400), .kind = &text_kind, .render = render_shot_state, .help = "writing|complete|failed" },
};

const size_t table_rows = sizeof table / sizeof table[0];
