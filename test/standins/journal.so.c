// SPDX-License-Identifier: MIT
// Makes QEMU behave like Proxmox VE's patched QEMU. When the patched QEMU daemonizes, its standard
// error becomes a stream into the systemd journal instead of /dev/null. The environment variable
// JOURNAL is the path of the journal's socket.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

static int (*next_dup2)(int from, int to);

__attribute__((constructor)) static void start(void)
{
	*(void **)&next_dup2 = dlsym(RTLD_NEXT, "dup2");
}

static int is_dev_null(int fd)
{
	struct stat file;

	return fstat(fd, &file) == 0 && S_ISCHR(file.st_mode) && file.st_rdev == makedev(1, 3);
}

// Opens a stream into the journal. The stream starts with a header of seven lines: the identifier,
// the unit, the priority, and four switches. The switches say whether each line after the header
// begins with a priority, and whether journald forwards lines to syslog, to kmsg and to the
// console.
static int open_journal(void)
{
	static const char header[] = "QEMU\n\n3\n0\n0\n0\n0\n";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = getenv("JOURNAL");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!path || fd < 0)
		return -1;
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    write(fd, header, sizeof(header) - 1) != sizeof(header) - 1) {
		close(fd);
		return -1;
	}
	return fd;
}

__attribute__((visibility("default"))) int dup2(int from, int to)
{
	int journal;
	int result;

	if (to != STDERR_FILENO || !is_dev_null(from))
		return next_dup2(from, to);
	journal = open_journal();
	result = next_dup2(journal, to);
	close(journal);
	return result;
}
