/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_uffd.h"

#include <cjson/cJSON.h>
#include <string.h>
#include <sys/socket.h>

#include "vmm/handed.h"
#include "vmm/memory/uffd.h"

#define MESSAGE_MAX 4096

/* What the patch opens it with: PAGEFAULT_FLAG_WP, MISSING_SHMEM, MINOR_SHMEM, WP_HUGETLBFS_SHMEM. */
#define FEATURES (UFFD_FEATURES_MISSING | UFFD_FEATURES_CAPTURE | UFFD_FEATURE_MINOR_SHMEM)

/* Addresses of user space, which a double holds exactly. */
static uint64_t number_of(const cJSON *o, const char *key)
{
	const cJSON *value = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsNumber(value) && value->valuedouble > 0 && value->valuedouble < 0x1p53 ? (uint64_t)value->valuedouble : 0;
}

int firecracker_uffd_parse(uint64_t *ret, const char *text, size_t n, struct failure *why)
{
	cJSON *json = cJSON_ParseWithLength(text, n);
	const cJSON *first = cJSON_IsArray(json) ? json->child : NULL;
	uint64_t at = number_of(first, "base_host_virt_addr"), size = number_of(first, "size");
	bool whole = first && !first->next;

	cJSON_Delete(json);
	if (!at || at % 4096 || !size)
		return fail(why, EINVAL, "what Firecracker says of its memory makes no sense");
	*ret = whole ? at : 0;
	return 0;
}

int firecracker_uffd_take(struct vm_memory *ret, int fd, struct failure *why)
{
	union {
		char space[CMSG_SPACE(sizeof(int))]; /* has room for two: whatever comes is closed */
		struct cmsghdr head;
	} control;
	int fds[2] = { -1, -1 };
	char text[MESSAGE_MAX];
	struct iovec iov = { text, sizeof text };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	AUTO_CLOSE int uffd = -1, more = -1;
	uint64_t at;
	int r;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len <= CMSG_LEN(sizeof fds))
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	uffd = handed_uffd(fds[0]);
	more = handed_uffd(fds[1]);
	if (uffd < 0)
		return fail(why, EIO, "Firecracker handed over no userfaultfd");
	r = firecracker_uffd_parse(&at, text, (size_t)n, why);
	if (r < 0)
		return r;
	ret->at = at;
	ret->error = at ? 0 : -EOPNOTSUPP;
	ret->features = FEATURES;
	if (at)
		ret->uffd = steal_fd(&uffd);
	return 0;
}
