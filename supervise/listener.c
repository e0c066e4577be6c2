// SPDX-License-Identifier: MIT
#include "listener.h"

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <seccomp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/seccomp.h>

#include "guardian.h"
#include "handlers.h"
#include "stderr.h"

// The headers of some supported distributions do not define these two macros yet.
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

// The stack size of each thread. A thread may read a CPUID table of 10 KiB onto its stack.
#define STACK_SIZE (256 << 10)

// A thread that has answered a notification exits if at least IDLE_MAX other threads wait for a
// notification.
#define IDLE_MAX 4

static int listener;
// An epoll descriptor that waits for notifications, and for exits of processes that have created
// vCPUs.
static int events;

static struct tracked *tracked;
static atomic_int idle; // how many threads wait for a notification

static _Noreturn void fail(void)
{
	err(EXIT_FAILURE, "the supervisor ends");
}

static void set_events(int operation, int fd, uint32_t flags)
{
	struct epoll_event event = {.events = EPOLLIN | flags, .data.fd = fd};

	if (epoll_ctl(events, operation, fd, &event))
		fail();
}

// Waits for a notification, or for the exit of a VMM's process. Returns true if it has received a
// notification into *slot. Because of EPOLLONESHOT, epoll wakes only one of the threads that wait
// for the listener. This thread receives the notification, and then lets epoll wake the next
// thread.
static bool receive(struct seccomp_notif *slot)
{
	struct epoll_event event;
	bool is_received;

	if (epoll_wait(events, &event, 1, -1) <= 0)
		return false;
	if (event.data.fd != listener) {
		tracked_forget_exited(tracked);
		return false;
	}
	if (event.events & EPOLLHUP)
		_exit(0); // the last process with the seccomp filter has exited
	memset(slot, 0, sizeof(*slot));
	is_received = !seccomp_notify_receive(listener, slot);
	// ENOENT: the thread that made the ioctl was killed before the supervisor received the
	// notification.
	if (!is_received && errno != ENOENT && errno != EINTR)
		fail();
	set_events(EPOLL_CTL_MOD, listener, EPOLLONESHOT);
	return is_received;
}

static void start_thread(void);

// Answers one notification. After every answer, the kernel executes the VMM's ioctl. While a thread
// handles a VMM's ioctl, the VMM can block the thread for any length of time. So if no other thread
// waits for a notification, this thread starts another thread before it handles the ioctl.
static void serve_one(struct seccomp_notif *slot)
{
	struct seccomp_notif_resp response = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	if (!receive(slot))
		return;
	if (atomic_fetch_sub(&idle, 1) == 1)
		start_thread();
	handle_notification(slot);
	response.id = slot->id;
	seccomp_notify_respond(listener, &response);
	slot->id = 0;
	stderr_check_soon();
	atomic_fetch_add(&idle, 1);
}

static void *serve(void *slot)
{
	do
		serve_one(slot);
	while (atomic_load(&idle) <= IDLE_MAX);
	guardian_return_slot(slot);
	atomic_fetch_sub(&idle, 1);
	return NULL;
}

// Starts a thread that answers notifications. If no thread can be started, the next notification
// waits until a thread has answered an earlier notification.
static void start_thread(void)
{
	struct seccomp_notif *slot = guardian_claim_slot();
	pthread_attr_t attributes;
	pthread_t thread;

	if (!slot)
		return;
	atomic_fetch_add(&idle, 1);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (pthread_create(&thread, &attributes, serve, slot)) {
		atomic_fetch_sub(&idle, 1);
		guardian_return_slot(slot);
	}
	pthread_attr_destroy(&attributes);
}

void listener_serve(int fd, struct tracked *owners)
{
	struct seccomp_notif *slot;

	listener = fd;
	tracked = owners;
	events = epoll_create1(EPOLL_CLOEXEC);
	if (events < 0)
		fail();
	set_events(EPOLL_CTL_ADD, listener, EPOLLONESHOT);
	set_events(EPOLL_CTL_ADD, tracked->exits, 0);
	// Ignore an error, because this flag only makes answers faster, and Linux before 6.6 does
	// not know the flag.
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	idle = 1;
	slot = guardian_claim_slot();
	while (true)
		serve_one(slot);
}
