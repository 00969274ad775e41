/* SPDX-License-Identifier: Apache-2.0
 *
 * "Something happened to this object": whoever wants to know adds a listener. Everything here is the loop's alone. */
#ifndef FORKFS_BASE_SIGNAL_H
#define FORKFS_BASE_SIGNAL_H

#include "vmm/base/list.h"

struct listener {
	struct list link;
	void (*notify)(struct listener *l);
};

static inline void listener_init(struct listener *l, void (*notify)(struct listener *))
{
	list_init(&l->link);
	l->notify = notify;
}

/* Tells every listener that is there now, each once. A listener may remove itself, any other, or add new ones. */
static inline void signal_emit(struct list *listeners)
{
	struct list now;
	struct listener *l;

	list_take(&now, listeners);
	while ((l = list_first(&now, struct listener, link))) {
		list_remove(&l->link);
		list_append(listeners, &l->link);
		l->notify(l);
	}
}

#endif
