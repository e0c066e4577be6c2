// SPDX-License-Identifier: MIT
// Feeds arbitrary bytes to the parsers of the files in /proc/PID, because a hostile process can
// choose the text of some of these files, for example of /proc/PID/cmdline.
#include "fuzz.h"

#include "command/proc_text.h"
#include "shared/guest_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	size_t room = 1 + take(&input, 1);
	char *bytes = take_rest(&input);
	char *line = strndup((const char *)input.data, input.size);
	char *out = malloc(room);
	struct proc_mapping mapping;
	uid_t uids[PROC_UIDS];

	MUST(line && out);
	guest_name_from_cmdline(bytes, input.size, out, room);
	MUST(memchr(out, '\0', room));
	guest_is_libvirts(bytes, input.size);
	if (proc_maps_file(line, "libxsaveshim.so", &mapping, out, room))
		MUST(memchr(out, '\0', room));
	proc_stat_holds_no_files(line);
	proc_fdinfo_pid(line);
	proc_status_uids(line, uids);
	proc_status_is_filtered(line);
	free(out);
	free(line);
	free(bytes);
	return 0;
}
