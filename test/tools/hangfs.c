// SPDX-License-Identifier: MIT
// A FUSE file system with one file. Depending on an argument, every write to the file hangs, or
// every close.
//
//	hangfs DIRECTORY write|flush
//
// hangfs mounts the file system on DIRECTORY, lets every user access the file system, and then
// prints "ready". The only file is named "file" and is empty. With `write`, hangfs never answers
// the kernel's write requests, so every write hangs. With `flush`, hangfs never answers the flush
// requests, which the kernel sends when a process closes the file, so every close hangs, even an
// exec that closes the file. hangfs prints "hangs" for each unanswered request. When hangfs ends,
// the kernel fails these requests. hangfs needs root and /dev/fuse.
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fuse.h>

#define FILE_ID 2

static int fuse;
static unsigned int hangs; // the opcode of the requests that get no answer

static void answer(const struct fuse_in_header *request, int error, const void *body, size_t size)
{
	char text[512];
	struct fuse_out_header header = {.len = (unsigned int)(sizeof(header) + size),
					 .error = -error,
					 .unique = request->unique};

	memcpy(text, &header, sizeof(header));
	if (size)
		memcpy(text + sizeof(header), body, size);
	if (write(fuse, text, header.len) != (ssize_t)header.len && errno != ENOENT)
		err(1, "answer");
}

static struct fuse_attr attributes(uint64_t id)
{
	return (struct fuse_attr){
		.ino = id, .nlink = 1, .mode = id == FILE_ID ? S_IFREG | 0666 : S_IFDIR | 0777};
}

static void look_up(const struct fuse_in_header *request)
{
	struct fuse_entry_out entry = {
		.nodeid = FILE_ID, .attr_valid = 3600, .attr = attributes(FILE_ID)};

	if (strcmp((const char *)(request + 1), "file") != 0)
		answer(request, ENOENT, NULL, 0);
	else
		answer(request, 0, &entry, sizeof(entry));
}

static void serve(const struct fuse_in_header *request)
{
	struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = 4096};
	struct fuse_attr_out attr = {.attr_valid = 3600, .attr = attributes(request->nodeid)};
	struct fuse_open_out open = {0};
	struct fuse_write_out write = {.size = ((const struct fuse_write_in *)(request + 1))->size};

	if (request->opcode == hangs) {
		puts("hangs");
		return;
	}
	switch (request->opcode) {
	case FUSE_INIT:
		answer(request, 0, &init, sizeof(init));
		puts("ready");
		break;
	case FUSE_LOOKUP:
		look_up(request);
		break;
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		answer(request, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		answer(request, 0, &open, sizeof(open));
		break;
	case FUSE_WRITE:
		answer(request, 0, &write, sizeof(write));
		break;
	case FUSE_FLUSH:
		answer(request, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break; // the kernel does not wait for answers to these requests
	default:
		answer(request, ENOSYS, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	static _Alignas(struct fuse_in_header) char request[1 << 16];
	char options[128];

	if (argc != 3)
		errx(2, "usage: hangfs DIRECTORY write|flush");
	hangs = !strcmp(argv[2], "write") ? FUSE_WRITE : FUSE_FLUSH;
	setlinebuf(stdout);
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0)
		err(1, "/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40777,user_id=0,group_id=0,allow_other",
		 fuse);
	if (mount("hangfs", argv[1], "fuse.hangfs", MS_NOSUID | MS_NODEV, options))
		err(1, "%s", argv[1]);
	while (read(fuse, request, sizeof(request)) > 0)
		serve((const struct fuse_in_header *)request);
	return 0;
}
