// SPDX-License-Identifier: MIT
// `dlopen LIBRARY` opens the library, and loads the state of three vCPUs. The first load uses the
// ioctl() that dlsym() finds in the library or its dependencies. The second load uses the same
// ioctl() after dlclose(). The third load uses the program's own ioctl().
#include <dlfcn.h>
#include <sys/ioctl.h>

#include "story.h"

int main(int argc, char **argv)
{
	void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	story_ioctl *its_ioctl;

	if (!library) {
		fprintf(stderr, "dlopen: %s\n", argc == 2 ? dlerror() : "which library?");
		return 2;
	}
	*(void **)&its_ioctl = dlsym(library, "ioctl");
	story("library", its_ioctl);
	dlclose(library);
	story("library closed", its_ioctl);
	story("program", ioctl);
	return 0;
}
