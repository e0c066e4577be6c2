// SPDX-License-Identifier: MIT
// A library whose ioctl() succeeds at once. The measured time is that of the interposer in front of
// this library.
int ioctl(int fd, unsigned long request, void *argument);

int ioctl(int fd, unsigned long request, void *argument)
{
	(void)fd;
	(void)request;
	(void)argument;
	return 0;
}
