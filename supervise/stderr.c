// SPDX-License-Identifier: MIT
#include "stderr.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "remote.h"

// Within FIRST_CHECK_MS after a seccomp notification, the supervisor checks whether a VMM still has
// the supervisor's standard error open (stderr.h). After that, each interval between two checks is
// twice as long as the interval before it, until an interval is at least LAST_INTERVAL_MS long.
#define FIRST_CHECK_MS 100
#define LAST_INTERVAL_MS (INT64_C(1) << 30)

// Before the supervisor writes a report, it checks whether a VMM still has standard error open, and
// waits at most REPORT_WAIT_MS for the end of this check. If standard error is a full pipe, the
// supervisor then waits at most REPORT_WAIT_MS until a reader has read from the pipe.
#define REPORT_WAIT_MS 1000

static struct tracked *tracked;
static pid_t first_process;
static void (*when_closed)(void);

// The mutex lock guards the following variables. Both condition variables use the monotonic clock.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t check_wanted;
static pthread_cond_t check_done;
static bool is_kept;
static int64_t interval_ms;
static int64_t next_check; // in milliseconds of the monotonic clock
static uint64_t requested; // how many checks stderr_check_now has requested
static uint64_t done;	   // how many of the requested checks are done

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

// Waits until a thread signals the condition variable, or until the monotonic clock reaches ms
// milliseconds. In the second case, returns false.
static bool wait_until(pthread_cond_t *condition, int64_t ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	return pthread_cond_timedwait(condition, &lock, &time) != ETIMEDOUT;
}

static void plan_check(int64_t after_ms)
{
	interval_ms = after_ms;
	next_check = now_ms() + after_ms;
}

// Returns true if the VMM's process or an owner (a process that has created a vCPU) still has the
// supervisor's standard error open as its own standard error. Also returns true as long as there is
// no owner, because a later owner may have this file open.
static bool is_in_use(void)
{
	pid_t *pids;
	size_t count;
	bool found;

	if (!remote_has_another_file(first_process, STDERR_FILENO, STDERR_FILENO))
		return true;
	count = tracked_owners(tracked, &pids);
	found = !count;
	for (size_t i = 0; i < count && !found; i++)
		found = !remote_has_another_file(pids[i], STDERR_FILENO, STDERR_FILENO);
	free(pids);
	return found;
}

// Closes the supervisor's standard error. Lines that the log would write to standard error then go
// to syslog.
static void release(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDERR_FILENO);
	close(null);
	when_closed();
	is_kept = false;
}

static void *check_until_released(void *nothing)
{
	pthread_mutex_lock(&lock);
	while (is_kept) {
		uint64_t answered;
		bool in_use;

		while (requested == done && now_ms() < next_check)
			wait_until(&check_wanted, next_check);
		if (now_ms() >= next_check)
			plan_check(interval_ms < LAST_INTERVAL_MS ? 2 * interval_ms : interval_ms);
		answered = requested;
		pthread_mutex_unlock(&lock);
		in_use = is_in_use();
		pthread_mutex_lock(&lock);
		if (!in_use)
			release();
		done = answered;
		pthread_cond_broadcast(&check_done);
	}
	pthread_mutex_unlock(&lock);
	return nothing;
}

void stderr_start(struct tracked *owners, pid_t vmm, void (*closed)(void))
{
	pthread_condattr_t monotonic;
	pthread_t thread;

	tracked = owners;
	first_process = vmm;
	when_closed = closed;
	is_kept = true;
	plan_check(FIRST_CHECK_MS);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&check_wanted, &monotonic);
	pthread_cond_init(&check_done, &monotonic);
	pthread_condattr_destroy(&monotonic);
	errno = pthread_create(&thread, NULL, check_until_released, NULL);
	if (errno)
		err(EXIT_FAILURE, "the supervisor ends: pthread_create");
	pthread_detach(thread);
}

void stderr_check_soon(void)
{
	pthread_mutex_lock(&lock);
	if (is_kept && next_check > now_ms() + FIRST_CHECK_MS) {
		plan_check(FIRST_CHECK_MS);
		pthread_cond_signal(&check_wanted);
	}
	pthread_mutex_unlock(&lock);
}

// stderr_check_now does not wait if the check for an earlier report has not ended yet.
void stderr_check_now(void)
{
	int64_t deadline = now_ms() + REPORT_WAIT_MS;
	bool may_wait;

	pthread_mutex_lock(&lock);
	may_wait = requested == done;
	if (is_kept) {
		requested++;
		pthread_cond_signal(&check_wanted);
	}
	while (is_kept && requested != done && may_wait)
		may_wait = wait_until(&check_done, deadline);
	pthread_mutex_unlock(&lock);
}

// If standard error was still a full pipe when the previous stderr_wait_writable returned,
// stderr_wait_writable does not wait.
void stderr_wait_writable(void)
{
	static bool is_stuck;
	struct pollfd target = {.fd = STDERR_FILENO, .events = POLLOUT};

	is_stuck = !poll(&target, 1, is_stuck ? 0 : REPORT_WAIT_MS);
}
