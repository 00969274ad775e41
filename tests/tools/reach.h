/* SPDX-License-Identifier: Apache-2.0
 *
 * What a VMM that was taken over may try: each thing is tried, and what came of it told on stderr, a line each: "reach WHAT: done" or an errno's name. */
#ifndef FORKFS_TEST_REACH_H
#define FORKFS_TEST_REACH_H

/* Stream sockets listen at `program`.sock, as a path and as an abstract name. */
void reach(const char *program);

#endif
