// SPDX-License-Identifier: MIT
// A library whose constructor leaves the program no descriptor to open a file with. Behind the shim in LD_PRELOAD: the
// loader starts libraries from the last to the first.
#include <sys/resource.h>

__attribute__((constructor)) static void take_all(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &limit);
}
