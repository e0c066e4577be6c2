// SPDX-License-Identifier: MIT
#include "executable.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int cannot_execute(const char *path)
{
	struct stat status;

	if (stat(path, &status))
		return errno;
	return S_ISREG(status.st_mode) && !access(path, X_OK) ? 0 : EACCES;
}

// Searches the directories of PATH as execvp does. An empty entry in PATH means the current
// directory. A file that cannot be executed (EACCES) does not end the search.
static int search_path(char path[PATH_MAX], const char *name)
{
	const char *directory = getenv("PATH");
	int result = ENOENT;

	if (!directory)
		directory = "/bin:/usr/bin";
	for (;;) {
		int length = (int)strcspn(directory, ":");
		const char *slash = length ? "/" : "";
		int size = snprintf(path, PATH_MAX, "%.*s%s%s", length, directory, slash, name);
		int error = size < PATH_MAX ? cannot_execute(path) : ENAMETOOLONG;

		if (!error)
			return 0;
		if (error == EACCES)
			result = EACCES;
		if (!directory[length])
			return result;
		directory += length + 1;
	}
}

static int find(char path[PATH_MAX], const char *name)
{
	if (!*name)
		return ENOENT;
	if (!strchr(name, '/'))
		return search_path(path, name);
	if (strlen(name) >= PATH_MAX)
		return ENAMETOOLONG;
	strcpy(path, name);
	return cannot_execute(path);
}

static bool read_at(int fd, uint64_t offset, void *to, size_t size)
{
	return pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

static enum executable_kind read_elf(int fd, struct executable *executable)
{
	enum executable_kind kind = EXECUTABLE_STATIC;
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	if (!read_at(fd, 0, &header, sizeof(header)) || header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_machine != EM_X86_64 || header.e_phentsize != sizeof(segment))
		return EXECUTABLE_OTHER_MACHINE;
	for (unsigned int i = 0; i < header.e_phnum; i++) {
		if (!read_at(fd, header.e_phoff + i * sizeof(segment), &segment, sizeof(segment)))
			return EXECUTABLE_UNKNOWN;
		if (segment.p_type != PT_INTERP)
			continue;
		if (segment.p_filesz > PATH_MAX ||
		    !read_at(fd, segment.p_offset, executable->loader, segment.p_filesz))
			return EXECUTABLE_UNKNOWN;
		executable->loader[PATH_MAX - 1] = '\0';
		kind = EXECUTABLE_DYNAMIC;
	}
	return kind;
}

static int inspect(struct executable *executable)
{
	char magic[SELFMAG] = "";
	int fd = open(executable->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno;
	executable->kind = EXECUTABLE_UNKNOWN;
	if (pread(fd, magic, sizeof(magic), 0) == SELFMAG && !memcmp(magic, ELFMAG, SELFMAG))
		executable->kind = read_elf(fd, executable);
	else if (magic[0] == '#' && magic[1] == '!')
		executable->kind = EXECUTABLE_SCRIPT;
	close(fd);
	return 0;
}

int executable_find(struct executable *executable, const char *name)
{
	int error;

	memset(executable, 0, sizeof(*executable));
	error = find(executable->path, name);
	return error ? error : inspect(executable);
}

const char *executable_gains(const struct executable *executable)
{
	struct stat status;

	if (stat(executable->path, &status))
		return NULL;
	if (status.st_mode & S_ISUID && status.st_uid != geteuid())
		return "is setuid";
	if (status.st_mode & S_ISGID && status.st_mode & S_IXGRP && status.st_gid != getegid())
		return "is setgid";
	// If root starts a program with file capabilities, the kernel does not set AT_SECURE
	// (security/commoncap.c), so the program's loader does not ignore LD_PRELOAD.
	if (getuid() && getxattr(executable->path, "security.capability", NULL, 0) > 0)
		return "has file capabilities";
	return NULL;
}
