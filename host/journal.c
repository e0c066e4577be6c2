// SPDX-License-Identifier: MIT
// Writes to systemd's journal by the native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
// The protocol needs another encoding for values with newlines, but no value here has a newline:
// report_text(), which writes the values, replaces control characters.
#include "journal.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// report_begin() begins each line of the log with this text. journal_send() drops the text, because
// the journal shows SYSLOG_IDENTIFIER instead.
#define PREFIX "xsaveshim: "

static const struct {
	const char *event, *message_id;
} events[] = {
	{"trim", "6edad338dfa944168abb744b675354b0"},
	{"would-trim", "4db7352c556b4590b9be0876413e3c80"},
	{"not-trimmed", "c2d7fc9f6a114ac38c8cc0ea424a795c"},
	{"refused", "f79f8210d1d646339c6fc4d777c02500"},
	{"lost", "5317085967e448a6b7d63d5737b874e5"},
	{"overload", "95c463ecfb6e499e89bb86877b6a1640"},
	{"active", "ba032e55e8da47e2a29d2e25ad63163d"},
	{"inactive", "f84e8a2c4ffa48e18d7ddd3b5f454126"},
	{"state-unknown", "a6b78d2bc2734c7fad122d9dc9964d66"},
};

bool journal_has_stdout(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat status;
	char text[48];

	if (!stream || fstat(STDOUT_FILENO, &status))
		return false;
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
	return !strcmp(stream, text);
}

// Copies the value of a key from a line such as: event=trim vm="my guest". A value that contains
// spaces is in quotes, and no value contains a quote. Returns false if the line lacks the key.
static bool find_value(const char *line, const char *key, char *value, size_t size)
{
	while (*line) {
		size_t key_length = strcspn(line, "=");
		const char *start = line + key_length + (line[key_length] == '=');
		bool is_quoted = *start == '"';
		size_t length = strcspn(start + is_quoted, is_quoted ? "\"" : " ");

		if (key_length == strlen(key) && !strncmp(line, key, key_length)) {
			snprintf(value, size, "%.*s", (int)length, start + is_quoted);
			return true;
		}
		line = start + is_quoted + length;
		line += strspn(line, "\" ");
	}
	return false;
}

static void add(FILE *entry, const char *field, const char *line, const char *key)
{
	char value[256];

	if (find_value(line, key, value, sizeof(value)))
		fprintf(entry, "%s=%s\n", field, value);
}

static void add_message_id(FILE *entry, const char *line)
{
	char event[32] = "";

	find_value(line, "event", event, sizeof(event));
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (!strcmp(events[i].event, event))
			fprintf(entry, "MESSAGE_ID=%s\n", events[i].message_id);
}

static bool send_entry(const char *entry, size_t size)
{
	static const struct sockaddr_un address = {
		.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t sent = sendto(fd, entry, size, MSG_NOSIGNAL | MSG_DONTWAIT,
			      (const struct sockaddr *)&address, sizeof(address));

	close(fd);
	return sent == (ssize_t)size;
}

bool journal_send(enum log_level level, const char *line, size_t length)
{
	// The numeric priorities of syslog(3).
	static const int priorities[] = {
		[LOG_LEVEL_ERROR] = 3, [LOG_LEVEL_NOTICE] = 5, [LOG_LEVEL_DEBUG] = 7};
	char message[1024], entry[2048];
	FILE *file;
	bool sent;

	snprintf(message, sizeof(message), "%.*s", (int)(length - strlen(PREFIX)),
		 line + strlen(PREFIX));
	file = fmemopen(entry, sizeof(entry), "w");
	if (!file)
		return false;
	fprintf(file, "MESSAGE=%s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=xsaveshim\n", message,
		priorities[level]);
	add(file, "XSAVESHIM_EVENT", message, "event");
	add(file, "XSAVESHIM_PID", message, "pid");
	add(file, "XSAVESHIM_VM", message, "vm");
	add_message_id(file, message);
	sent = !fflush(file) && send_entry(entry, (size_t)ftell(file));
	fclose(file);
	return sent;
}
