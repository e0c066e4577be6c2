// SPDX-License-Identifier: MIT
#include "executable.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

// fs/exec.c follows five #! lines and fails at the next; fs/binfmt_script.c reads 256 bytes of the
// first line.
#define SCRIPTS_MAX 5
#define SCRIPT_LINE_MAX 256

// The note in which Go's linker keeps the build id: ELF_NOTE_GOBUILDID_TAG in
// src/cmd/link/internal/ld/elf.go.
#define GO_NOTE_NAME "Go\0"
#define GO_NOTE_TYPE 4

// More than the notes of any program.
#define NOTES_MAX 65536

static bool copy(char to[PATH_MAX], const char *from, size_t length)
{
	if (length >= PATH_MAX)
		return false;
	memcpy(to, from, length);
	to[length] = '\0';
	return true;
}

static int cannot_execute(const char *path)
{
	struct stat status;

	if (stat(path, &status))
		return errno;
	if (!S_ISREG(status.st_mode) || access(path, X_OK))
		return EACCES;
	return 0;
}

// Searches PATH as execvp does: an empty entry means the current directory, and the search goes on
// after a file that cannot be executed.
static int search_path(char path[PATH_MAX], const char *name)
{
	const char *directory = getenv("PATH");
	int result = ENOENT;

	if (!directory)
		directory = "/bin:/usr/bin";
	for (;;) {
		size_t length = strcspn(directory, ":");
		const char *slash = length ? "/" : "";
		int size =
			snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, directory, slash, name);
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
	return copy(path, name, strlen(name)) ? cannot_execute(path) : ENAMETOOLONG;
}

static bool read_at(int fd, uint64_t offset, void *to, size_t size)
{
	return pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

static size_t align_up(size_t size, size_t alignment)
{
	return (size + alignment - 1) / alignment * alignment;
}

static bool has_go_note(const char *notes, size_t size, size_t alignment)
{
	Elf64_Nhdr note;

	for (size_t at = 0; at + sizeof(note) <= size;) {
		const char *name = notes + at + sizeof(note);

		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note) + align_up(note.n_namesz, alignment);
		if (note.n_type == GO_NOTE_TYPE && note.n_namesz == sizeof(GO_NOTE_NAME) &&
		    at <= size && !memcmp(name, GO_NOTE_NAME, sizeof(GO_NOTE_NAME)))
			return true;
		at += align_up(note.n_descsz, alignment);
	}
	return false;
}

static bool is_go(int fd, const Elf64_Phdr *segment)
{
	char *notes;
	bool found;

	if (segment->p_type != PT_NOTE || segment->p_filesz > NOTES_MAX)
		return false;
	notes = malloc(segment->p_filesz + 1);
	found = notes && read_at(fd, segment->p_offset, notes, segment->p_filesz) &&
		has_go_note(notes, segment->p_filesz, segment->p_align == 8 ? 8 : 4);
	free(notes);
	return found;
}

static enum executable_kind read_elf(int fd, struct executable *executable)
{
	enum executable_kind kind = EXECUTABLE_STATIC;
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	if (!read_at(fd, 0, &header, sizeof(header)) || header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    header.e_machine != EM_X86_64 || header.e_phentsize != sizeof(segment))
		return EXECUTABLE_FOREIGN;
	for (unsigned int i = 0; i < header.e_phnum; i++) {
		if (!read_at(fd, header.e_phoff + i * sizeof(segment), &segment, sizeof(segment)))
			return EXECUTABLE_UNKNOWN;
		executable->go |= is_go(fd, &segment);
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

// Copies the interpreter that a #! line names. False where it names none.
static bool read_interpreter(const char *line, char interpreter[PATH_MAX])
{
	line += strspn(line, " \t");
	return copy(interpreter, line, strcspn(line, " \t\n")) && *interpreter;
}

// Reads the file executable->program. ELOOP means that it is a script; program is then its
// interpreter.
static int inspect(struct executable *executable)
{
	char line[SCRIPT_LINE_MAX + 1] = "";
	int fd = open(executable->program, O_RDONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return errno;
	executable->kind = EXECUTABLE_UNKNOWN;
	if (pread(fd, line, SCRIPT_LINE_MAX, 0) < 0)
		result = errno;
	else if (!memcmp(line, ELFMAG, SELFMAG))
		executable->kind = read_elf(fd, executable);
	else if (line[0] == '#' && line[1] == '!' &&
		 read_interpreter(line + 2, executable->program))
		result = ELOOP;
	close(fd);
	return result;
}

static int follow(struct executable *executable)
{
	int result;

	strcpy(executable->program, executable->path);
	for (unsigned int scripts = 0; scripts <= SCRIPTS_MAX; scripts++) {
		result = inspect(executable);
		if (result != ELOOP)
			return result;
		result = cannot_execute(executable->program);
		if (result)
			return result;
	}
	return ELOOP;
}

int executable_find(struct executable *executable, const char *name)
{
	int error;

	memset(executable, 0, sizeof(*executable));
	error = find(executable->path, name);
	return error ? error : follow(executable);
}

int executable_self(struct executable *executable)
{
	return executable_find(executable, "/proc/self/exe");
}

const char *executable_gains(const struct executable *executable)
{
	struct stat status;

	if (stat(executable->program, &status))
		return NULL;
	if (status.st_mode & S_ISUID && status.st_uid != geteuid())
		return "is setuid";
	if (status.st_mode & S_ISGID && status.st_mode & S_IXGRP && status.st_gid != getegid())
		return "is setgid";
	// security/commoncap.c: file capabilities do not put root's programs into secure-execution
	// mode.
	if (getuid() && getxattr(executable->program, "security.capability", NULL, 0) > 0)
		return "has file capabilities";
	return NULL;
}
