/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/firecracker_api.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "vmm/base/text.h"

struct firecracker_api {
	sd_event *event;
	CURLM *multi;
	CURL *easy;
	struct curl_slist *headers;
	sd_event_source *io, *timer;
	bool busy;
	bool too_long;
	struct text body;
	struct request {
		const char *method, *target;
		char *body; /* owned; NULL: there is none */
		firecracker_answer to;
		void *data;
	} now, next;
};

static size_t on_body(char *bytes, size_t size, size_t n, void *data)
{
	struct firecracker_api *api = data;

	if (api->body.len + size * n > FIRECRACKER_ANSWER_MAX) {
		api->too_long = true;
		return 0;
	}
	text_append(&api->body, bytes, size * n);
	return api->body.failed ? 0 : size * n;
}

/* Firecracker's own {"fault_message"}, its HTTP layer's {"error"}, which holds a raw newline and is no JSON, or whatever it is. */
static void explain(const char *body, size_t n, long status, struct failure *why)
{
	cJSON *json = cJSON_ParseWithLength(body, n);
	const char *said = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "fault_message"));

	if (said)
		fail(why, EIO, "Firecracker refused: %s", said);
	else if (n)
		fail(why, EIO, "Firecracker answered %ld: %.*s", status, n < 400 ? (int)n : 400, body);
	else
		fail(why, EIO, "Firecracker answered %ld", status);
	cJSON_Delete(json);
}

static bool broke(CURLcode result)
{
	return result == CURLE_GOT_NOTHING || result == CURLE_COULDNT_CONNECT || result == CURLE_RECV_ERROR || result == CURLE_SEND_ERROR ||
	       result == CURLE_PARTIAL_FILE;
}

static bool set_request(CURL *easy, const char *method, const char *target, const char *body)
{
	char url[128];

	snprintf(url, sizeof url, "http://localhost%s", target);
	return !curl_easy_setopt(easy, CURLOPT_URL, url) && !curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method) &&
	       !curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, body);
}

/* Takes r->body, also on failure. */
static int begin(struct firecracker_api *api, struct request *r)
{
	bool set = set_request(api->easy, r->method, r->target, r->body);

	free_ptr(&r->body);
	text_finish(&api->body);
	api->too_long = false;
	if (!set || curl_multi_add_handle(api->multi, api->easy))
		return -ENOMEM;
	api->busy = true;
	api->now = *r;
	return 0;
}

static void answer(struct firecracker_api *api, const struct failure *why)
{
	struct failure unbegun;

	api->busy = false;
	api->now.to(why, api->now.data);
	if (api->busy || !api->next.body)
		return;
	if (begin(api, &api->next) < 0) {
		fail(&unbegun, ENOMEM, "no memory to ask Firecracker");
		api->next.to(&unbegun, api->next.data);
	}
}

static void finish(struct firecracker_api *api, CURLcode result)
{
	struct failure why;
	long status = 0;

	curl_multi_remove_handle(api->multi, api->easy);
	curl_easy_getinfo(api->easy, CURLINFO_RESPONSE_CODE, &status);
	if (result == CURLE_OK && status / 100 == 2) {
		answer(api, NULL);
		return;
	}
	if (api->too_long)
		fail(&why, EPROTO, "Firecracker's answer is longer than %u bytes", FIRECRACKER_ANSWER_MAX);
	else if (result != CURLE_OK)
		fail(&why, broke(result) ? ECONNRESET : EPROTO, "Firecracker didn't answer: %s", curl_easy_strerror(result));
	else
		explain(api->body.data ?: "", api->body.len, status, &why);
	answer(api, &why);
}

static void act(struct firecracker_api *api, curl_socket_t fd, int events)
{
	int running, left;
	CURLMsg *m;

	curl_multi_socket_action(api->multi, fd, events, &running);
	while ((m = curl_multi_info_read(api->multi, &left)))
		if (m->msg == CURLMSG_DONE) {
			finish(api, m->data.result);
			return; /* there is one at a time; and it may have been destroyed */
		}
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *data)
{
	int events = (revents & EPOLLIN ? CURL_CSELECT_IN : 0) | (revents & EPOLLOUT ? CURL_CSELECT_OUT : 0);

	(void)source;
	act(data, fd, events | (revents & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0));
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	(void)source;
	(void)usec;
	act(data, CURL_SOCKET_TIMEOUT, 0);
	return 0;
}

/* curl's: it wants `fd` watched for this. */
static int watch(CURL *easy, curl_socket_t fd, int what, void *data, void *of_socket)
{
	struct firecracker_api *api = data;
	uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

	(void)easy;
	(void)of_socket;
	api->io = sd_event_source_disable_unref(api->io);
	if (what == CURL_POLL_REMOVE)
		return 0;
	return sd_event_add_io(api->event, &api->io, fd, events, on_io, api) < 0 ? -1 : 0;
}

/* curl's: it wants to be called in so many milliseconds, never from inside of this. */
static int wait_for(CURLM *multi, long ms, void *data)
{
	struct firecracker_api *api = data;

	(void)multi;
	api->timer = sd_event_source_disable_unref(api->timer);
	if (ms < 0)
		return 0;
	return sd_event_add_time_relative(api->event, &api->timer, CLOCK_MONOTONIC, (uint64_t)ms * 1000, 1, on_timer, api) < 0 ? -1 : 0;
}

static bool set_up(CURL *easy, const char *path, struct curl_slist **headers)
{
	*headers = curl_slist_append(NULL, "Expect:");
	if (*headers)
		*headers = curl_slist_append(*headers, "Content-Type: application/json") ?: *headers;
	return *headers && !curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, path) && !curl_easy_setopt(easy, CURLOPT_HTTPHEADER, *headers) &&
	       !curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) && !curl_easy_setopt(easy, CURLOPT_PROXY, "") &&
	       !curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
}

int firecracker_api_create(struct firecracker_api **ret, sd_event *event, const char *path, struct failure *why)
{
	struct firecracker_api *api;

	if (strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
		return fail(why, ENAMETOOLONG, "%s: is too long for a socket, whose path has at most 107 bytes", path);
	api = calloc(1, sizeof *api);
	if (!api)
		return fail(why, ENOMEM, "no memory to talk to Firecracker");
	api->event = sd_event_ref(event);
	api->multi = curl_multi_init();
	api->easy = curl_easy_init();
	if (api->multi && api->easy && set_up(api->easy, path, &api->headers) && !curl_easy_setopt(api->easy, CURLOPT_WRITEFUNCTION, on_body) &&
	    !curl_easy_setopt(api->easy, CURLOPT_WRITEDATA, api) && !curl_multi_setopt(api->multi, CURLMOPT_SOCKETFUNCTION, watch) &&
	    !curl_multi_setopt(api->multi, CURLMOPT_SOCKETDATA, api) && !curl_multi_setopt(api->multi, CURLMOPT_TIMERFUNCTION, wait_for) &&
	    !curl_multi_setopt(api->multi, CURLMOPT_TIMERDATA, api)) {
		*ret = api;
		return 0;
	}
	firecracker_api_destroy(api);
	return fail(why, ENOMEM, "no memory to talk to Firecracker");
}

void firecracker_api_destroy(struct firecracker_api *api)
{
	if (!api)
		return;
	if (api->busy)
		curl_multi_remove_handle(api->multi, api->easy);
	curl_easy_cleanup(api->easy);
	curl_multi_cleanup(api->multi);
	curl_slist_free_all(api->headers);
	sd_event_source_disable_unref(api->io);
	sd_event_source_disable_unref(api->timer);
	sd_event_unref(api->event);
	text_finish(&api->body);
	free(api->next.body);
	free(api);
}

int firecracker_api_send(struct firecracker_api *api, const char *method, const char *target, const char *body, firecracker_answer to, void *data)
{
	struct request r = { method, target, NULL, to, data };

	if (api->next.body)
		return -EBUSY;
	r.body = strdup(body);
	if (!r.body)
		return -ENOMEM;
	if (!api->busy)
		return begin(api, &r);
	api->next = r;
	return 0;
}

void firecracker_api_flush(struct firecracker_api *api)
{
	if (api && api->busy && api->io)
		act(api, sd_event_source_get_io_fd(api->io), CURL_CSELECT_IN);
}

struct kept {
	char *at;
	size_t len, size;
};

static size_t keep(char *bytes, size_t size, size_t n, void *data)
{
	struct kept *k = data;
	size_t room = k->size - 1 - k->len;

	n *= size;
	memcpy(k->at + k->len, bytes, n < room ? n : room);
	k->len += n < room ? n : room;
	return n;
}

int firecracker_api_ask(const char *path, const char *method, const char *target, const char *body, char *ret, size_t n, long ms)
{
	CURL *easy = curl_easy_init();
	struct curl_slist *headers = NULL;
	struct kept kept = { ret, 0, n };
	CURLcode result = CURLE_OUT_OF_MEMORY;
	long status = 0;

	if (easy && set_up(easy, path, &headers) && set_request(easy, method, target, body) && !curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep) &&
	    !curl_easy_setopt(easy, CURLOPT_WRITEDATA, &kept) && !curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, ms))
		result = curl_easy_perform(easy);
	if (easy)
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(easy);
	curl_slist_free_all(headers);
	ret[kept.len] = '\0';
	if (result == CURLE_OK)
		return (int)status;
	return result == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : result == CURLE_OUT_OF_MEMORY ? -ENOMEM : -ECONNRESET;
}
