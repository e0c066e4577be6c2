// SPDX-License-Identifier: MIT
#include "stderr.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "remote.h"

// The first check's time after a notification. Each further interval is twice as long.
#define FIRST_CHECK_MS 100
#define LAST_INTERVAL_MS (INT_MAX / 2)

// The time that a report waits for a reader of standard error.
#define STDERR_WAIT_MS 1000

static const struct tracked *tracked;
static pid_t first_process;
static bool is_kept;
static int interval_ms;
static int64_t next_check;

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void plan_check(int after_ms)
{
	interval_ms = after_ms;
	next_check = now_ms() + after_ms;
}

void stderr_init(const struct tracked *processes, pid_t vmm, bool is_open)
{
	tracked = processes;
	first_process = vmm;
	is_kept = is_open;
	plan_check(FIRST_CHECK_MS);
}

// Before there is a VMM, the one to come may have it.
static bool is_in_use(void)
{
	if (!tracked->process_count || !remote_has_another_file(first_process, STDERR_FILENO))
		return true;
	for (size_t i = 0; i < tracked->process_count; i++)
		if (!remote_has_another_file(tracked->processes[i]->pid, STDERR_FILENO))
			return true;
	return false;
}

// From then on the log has no standard error.
static void release(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup2(null, STDERR_FILENO);
	close(null);
	is_kept = false;
}

void stderr_check_now(void)
{
	if (is_kept && !is_in_use())
		release();
}

void stderr_check_soon(void)
{
	if (is_kept)
		plan_check(FIRST_CHECK_MS);
}

void stderr_check_if_due(void)
{
	if (!is_kept || now_ms() < next_check)
		return;
	stderr_check_now();
	if (interval_ms < LAST_INTERVAL_MS)
		plan_check(2 * interval_ms);
}

int stderr_time_to_check(void)
{
	int64_t time = next_check - now_ms();

	return !is_kept ? -1 : time > 0 ? (int)time : 0;
}

// A report does not wait for a reader if an earlier one waited in vain.
void stderr_wait_writable(void)
{
	static bool is_stuck;
	struct pollfd target = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (is_kept)
		is_stuck = !poll(&target, 1, is_stuck ? 0 : STDERR_WAIT_MS);
}
