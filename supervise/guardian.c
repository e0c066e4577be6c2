// SPDX-License-Identifier: MIT
#include "guardian.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "handlers.h"
#include "remote.h"
#include "reports.h"
#include "xsaveshim/report.h"

// The number of slots. A slot is memory for the seccomp notification that a thread of the
// supervisor handles.
#define SLOTS 32768

// The kernel's PID_MAX_LIMIT.
#define PIDS (4 << 20)

// The memory that the guardian (guardian.h) and the supervisor share. The kernel writes each
// notification directly into a slot of this memory, so that the guardian knows every notification
// that the supervisor has received.
struct shared {
	atomic_uint slots_used; // the highest index of a slot that was ever claimed, plus one
	struct {
		atomic_flag is_claimed;
		struct seccomp_notif notification; // its id is 0 if the slot is empty
	} slots[SLOTS];
	unsigned char owners[PIDS / 8];
};

static struct shared *shared;
static int listener;
static pid_t supervisor;
static int release_stderr; // an eventfd: readable once the supervisor has closed standard error

struct seccomp_notif *guardian_claim_slot(void)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		unsigned int used = atomic_load(&shared->slots_used);

		if (atomic_flag_test_and_set(&shared->slots[i].is_claimed))
			continue;
		while (used <= i &&
		       !atomic_compare_exchange_weak(&shared->slots_used, &used, i + 1))
			;
		return &shared->slots[i].notification;
	}
	return NULL;
}

void guardian_return_slot(struct seccomp_notif *slot)
{
	size_t offset = (size_t)((char *)slot - (char *)&shared->slots[0].notification);

	atomic_flag_clear(&shared->slots[offset / sizeof(shared->slots[0])].is_claimed);
}

unsigned char *guardian_owners(void)
{
	return shared->owners;
}

void guardian_release_stderr(void)
{
	eventfd_write(release_stderr, 1);
}

static bool is_owner(pid_t pid)
{
	return pid >= 0 && pid < PIDS && shared->owners[pid / 8] >> pid % 8 & 1;
}

// Reports that the supervisor has died. If ioctl_name is not NULL, also reports that the guardian
// ends the process because of this ioctl. A child of the guardian writes the report, so that the
// guardian can answer VMMs even if the write blocks.
static void report_death(pid_t process, const char *ioctl_name)
{
	pid_t child = fork();
	struct report_line line;

	if (child > 0)
		return;
	if (!child)
		close(listener);
	report_begin(&line, reports_begin(process), LOG_LEVEL_ERROR, "supervisor-died");
	report_int(&line, "supervisor", supervisor);
	if (ioctl_name) {
		report_text(&line, "ioctl", ioctl_name);
		report_text(&line, "action", "abort");
	}
	report_send(&line);
	reports_end();
	if (!child)
		_exit(0);
}

static const char *name_of(unsigned int request)
{
	for (size_t i = 0; i < WATCHED; i++)
		if (watched[i].request == request)
			return watched[i].name;
	return "?";
}

// If the process that made the notification's ioctl has created a vCPU, and the ioctl is not
// KVM_CREATE_VCPU, the guardian must end this process. In this case, open_victim sets *process to
// the process's pid and returns a pidfd. In every other case, open_victim returns -1. After opening
// the pidfd, open_victim checks that the process still waits in the ioctl. Without this check, the
// pidfd could refer to a later process with the same pid.
static int open_victim(const struct seccomp_notif *notification, pid_t *process)
{
	struct caller caller = {.tid = (pid_t)notification->pid,
				.listener = listener,
				.notification = notification->id};
	pid_t parent;
	int pidfd;

	if ((unsigned int)notification->data.args[1] == KVM_CREATE_VCPU ||
	    !remote_process(caller.tid, process, &parent) || !is_owner(*process))
		return -1;
	pidfd = (int)syscall(SYS_pidfd_open, *process, 0);
	if (pidfd >= 0 && !caller_waits(&caller)) {
		close(pidfd);
		return -1;
	}
	return pidfd;
}

// If open_victim returns a pidfd, ends the process that made the ioctl. Otherwise, makes the ioctl
// fail with ENOSYS, as the kernel does if no process has the listener open.
static void answer(const struct seccomp_notif *notification)
{
	struct seccomp_notif_resp response = {.id = notification->id, .error = -ENOSYS};
	pid_t process;
	int pidfd = open_victim(notification, &process);

	if (pidfd < 0) {
		seccomp_notify_respond(listener, &response);
		return;
	}
	report_death(process, name_of((unsigned int)notification->data.args[1]));
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	close(pidfd);
}

static void answer_slots(void)
{
	unsigned int used = atomic_load(&shared->slots_used);

	for (unsigned int i = 0; i < used; i++)
		if (shared->slots[i].notification.id)
			answer(&shared->slots[i].notification);
}

// Waits at most timeout_ms milliseconds (-1: without a limit) for a notification, or for the exit
// of the last process with the seccomp filter. Returns false if this last process has exited.
static bool has_callers(int timeout_ms)
{
	struct pollfd poll_listener = {.fd = listener, .events = POLLIN};

	return poll(&poll_listener, 1, timeout_ms) <= 0 || !(poll_listener.revents & POLLHUP);
}

static void close_stderr(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDERR_FILENO);
	close(null);
}

static void wait_for_death(int pidfd)
{
	struct pollfd events[] = {{.fd = release_stderr, .events = POLLIN},
				  {.fd = pidfd, .events = POLLIN}};

	while (!events[1].revents) {
		if (poll(events, 2, -1) <= 0 || !events[0].revents)
			continue;
		close_stderr();
		events[0].fd = -1;
	}
}

static _Noreturn void guard(int pidfd, const struct settings *settings, pid_t vmm)
{
	static struct seccomp_notif notification;

	prctl(PR_SET_NAME, "xsaveshim-guard");
	wait_for_death(pidfd);
	if (!has_callers(0))
		_exit(0); // no process needs the supervisor any more
	report_death(vmm, NULL);
	if (settings->refused != REFUSED_ABORT)
		_exit(0);
	answer_slots();
	while (has_callers(-1)) {
		memset(&notification, 0, sizeof(notification));
		if (!seccomp_notify_receive(listener, &notification))
			answer(&notification);
	}
	_exit(0);
}

void guardian_start(int fd, const struct settings *settings, pid_t vmm, int unneeded)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	pid_t guardian;

	listener = fd;
	supervisor = getpid();
	release_stderr = eventfd(0, EFD_CLOEXEC);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (pidfd < 0 || release_stderr < 0 || shared == MAP_FAILED)
		err(EXIT_FAILURE, "the supervisor ends: its guardian process cannot be started");
	guardian = fork();
	if (guardian < 0)
		err(EXIT_FAILURE, "the supervisor ends: its guardian process cannot be started");
	if (!guardian) {
		close(unneeded);
		guard(pidfd, settings, vmm);
	}
	close(pidfd);
}
