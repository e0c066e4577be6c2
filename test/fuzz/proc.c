// SPDX-License-Identifier: MIT
// What /proc says of a process that wants to deceive or to crash its reader.
#include "fuzz.h"

#include "proc_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	size_t room = 1 + take(&input, 1);
	char *bytes = take_rest(&input);
	char *line = strndup((const char *)input.data, input.size);
	char *out = malloc(room);
	const char *value;
	bool replaced;

	MUST(line && out);
	proc_cmdline_guest_name(bytes, input.size, out, room);
	MUST(memchr(out, '\0', room));
	value = proc_environ_value(bytes, input.size, "LD_PRELOAD");
	MUST(!value || (value > bytes && value < bytes + input.size));
	MUST(!value || memchr(value, '\0', (size_t)(bytes + input.size - value)));
	if (proc_maps_shim(line, out, room, &replaced))
		MUST(memchr(out, '\0', room));
	proc_stat_holds_no_files(line);
	proc_fdinfo_pid(line);
	free(out);
	free(line);
	free(bytes);
	return 0;
}
