// SPDX-License-Identifier: MIT
// Every ioctl succeeds at once, so that a measured time is that of an interposer before it.
int ioctl(int fd, unsigned long request, void *argument);

int ioctl(int fd, unsigned long request, void *argument)
{
	(void)fd;
	(void)request;
	(void)argument;
	return 0;
}
