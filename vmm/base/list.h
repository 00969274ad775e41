/* SPDX-License-Identifier: Apache-2.0
 *
 * A doubly linked ring through its members. The head is a struct list of its own; an unlinked member points at itself, so that
 * list_remove() may be called twice. */
#ifndef FORKFS_BASE_LIST_H
#define FORKFS_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/cleanup.h"

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Links `item` as the last of `head`'s ring. */
static inline void list_append(struct list *head, struct list *item)
{
	item->prev = head->prev;
	item->next = head;
	head->prev->next = item;
	head->prev = item;
}

static inline void list_prepend(struct list *head, struct list *item)
{
	list_append(head->next, item);
}

static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

/* Moves all members of `from` to the end of the empty ring `to`: what is done with them can then add to `from` without end. */
static inline void list_take(struct list *to, struct list *from)
{
	list_init(to);
	if (list_empty(from))
		return;
	*to = *from;
	to->next->prev = to;
	to->prev->next = to;
	list_init(from);
}

/* `pos` is a plain variable. The body may remove `pos` itself, nothing else. */
#define list_for_each(pos, head, member)                                                                                        \
	for (struct list *at_##pos = (head)->next, *next_##pos = at_##pos->next;                                                 \
	     at_##pos != (head) && (pos = container_of(at_##pos, __typeof__(*pos), member));                                     \
	     at_##pos = next_##pos, next_##pos = at_##pos->next)

#define list_first(head, type, member) (list_empty(head) ? NULL : container_of((head)->next, type, member))
#define list_last(head, type, member) (list_empty(head) ? NULL : container_of((head)->prev, type, member))

#endif
