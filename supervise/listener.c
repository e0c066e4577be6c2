// SPDX-License-Identifier: MIT
// The listener, where the kernel's notifications arrive, and the threads that answer them.
#include "supervise.h"

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/seccomp.h>

#include "handlers.h"

// Newer than the headers of some distributions that this is built on.
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

// Enough for a thread that learns a CPUID table of 10 KiB.
#define STACK_SIZE (256 << 10)

// A thread ends if more than this number wait for notifications.
#define IDLE_MAX 4

static int listener;
static int events;	// an epoll descriptor: the listener, and the exits of VMMs
static atomic_int idle; // the number of threads that wait for a notification

static _Noreturn void fail(void)
{
	err(EXIT_FAILURE, "the supervisor ends");
}

static void set_events(int fd, uint32_t flags, int operation)
{
	struct epoll_event event = {.events = EPOLLIN | flags, .data.fd = fd};

	if (epoll_ctl(events, operation, fd, &event))
		fail();
}

// Receives a notification, if there is one. EPOLLONESHOT: one of the waiting threads receives it,
// and then lets the next one wait for the listener.
static bool receive(struct seccomp_notif *request)
{
	struct epoll_event event;
	int ready = epoll_wait(events, &event, 1, handlers_timeout());
	bool is_received;

	if (!ready || (ready > 0 && event.data.fd != listener))
		handlers_clean_up();
	if (ready <= 0 || event.data.fd != listener)
		return false;
	if (event.events & EPOLLHUP)
		_exit(0); // the last process with the filter has exited
	memset(request, 0, sizeof(*request));
	is_received = !seccomp_notify_receive(listener, request);
	// ENOENT: the caller was killed before the supervisor could receive its notification.
	if (!is_received && errno != ENOENT && errno != EINTR)
		fail();
	set_events(listener, EPOLLONESHOT, EPOLL_CTL_MOD);
	return is_received;
}

static void start_thread(void);

// Answers one notification. The last idle thread starts another: handling may take any time.
static void serve_one(void)
{
	struct seccomp_notif request;
	struct seccomp_notif_resp response = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};

	if (!receive(&request))
		return;
	if (atomic_fetch_sub(&idle, 1) == 1)
		start_thread();
	handle_notification(&request);
	response.id = request.id;
	seccomp_notify_respond(listener, &response);
	atomic_fetch_add(&idle, 1);
}

static void *serve(void *nothing)
{
	do
		serve_one();
	while (atomic_load(&idle) <= IDLE_MAX);
	atomic_fetch_sub(&idle, 1);
	return nothing;
}

// If this fails, the next call waits until a thread has answered another.
static void start_thread(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	atomic_fetch_add(&idle, 1);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (pthread_create(&thread, &attributes, serve, NULL))
		atomic_fetch_sub(&idle, 1);
	pthread_attr_destroy(&attributes);
}

void supervise_prepare(int fd, const struct settings *settings, pid_t vmm, const char *program,
		       const char *reason)
{
	listener = fd;
	events = epoll_create1(EPOLL_CLOEXEC);
	if (events < 0)
		fail();
	set_events(listener, EPOLLONESHOT, EPOLL_CTL_ADD);
	set_events(handlers_init(fd, settings, vmm, program, reason), 0, EPOLL_CTL_ADD);
	// Since Linux 6.6; it only makes answers faster.
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

void supervise(void)
{
	idle = 1;
	while (true)
		serve_one();
}
