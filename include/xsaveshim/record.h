// SPDX-License-Identifier: MIT
// The record holds the settings and the event counts that `xsaveshim status` shows. Each
// supervisor, and each VMM that has loaded the library, has a record in its memory. `xsaveshim
// status`, which runs in another process, reads the record from this memory. To find the record,
// `xsaveshim status` searches the writable data of the library, or of the supervisor's program, for
// RECORD_MAGIC.
//
// All functions are thread- and async-signal-safe.
#ifndef XSAVESHIM_RECORD_H
#define XSAVESHIM_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "xsaveshim/settings.h"

#define RECORD_MAGIC "xsaveshimrecord"

// Increase RECORD_VERSION with every change of struct xsaveshim_record, or of an enum whose numbers
// the struct stores or uses as an index. Otherwise, `xsaveshim status` would misread the record of
// a library or supervisor of another version.
#define RECORD_VERSION 3

// The events that a record counts. The record counts every occurrence, even one that xsaveshim does
// not report because of the rate limit.
enum record_count {
	RECORD_TRIMMED,
	RECORD_WOULD_TRIM,
	RECORD_REFUSED, // KVM refused a payload or an XCR0
	RECORD_LOST,
	RECORD_REFUSED_STATE,
	RECORD_COUNTS,
};

// Define a record as a static object whose magic is RECORD_MAGIC and whose other fields are 0.
struct xsaveshim_record {
	_Alignas(16) char magic[16];
	_Atomic uint32_t version;    // RECORD_VERSION after record_publish; 0 before
	_Atomic uint32_t vcpu_seen;  // 1 after record_vcpu; always 0 in a supervisor
	uint32_t values[SETTINGS];   // the values of the settings; index: enum setting
	const char *log_path;	     // the log's path if values[SETTING_LOG] is LOG_PATH
	_Atomic uint32_t log_in_use; // 1 + the enum log_target in use (LOG_IN_USE); 0: log not open
	_Atomic uint64_t counts[RECORD_COUNTS];
};

// Copies the settings into the record, except that the record only points to settings->log_path.
void record_publish(struct xsaveshim_record *record, const struct settings *settings);

// Notes that the VMM creates or uses a vCPU.
static inline void record_vcpu(struct xsaveshim_record *record)
{
	atomic_store_explicit(&record->vcpu_seen, 1, memory_order_relaxed);
}

static inline void record_event(struct xsaveshim_record *record, enum record_count event)
{
	atomic_fetch_add_explicit(&record->counts[event], 1, memory_order_relaxed);
}

// Reads the settings from a copy of another process's record. log_path: a copy of the text that the
// record's log_path points to. The function does not trust the copies, because a hostile process
// may have written them. Returns false if the record's version is not RECORD_VERSION, or if the
// record's settings are not valid.
bool record_settings(const struct xsaveshim_record *record, const char log_path[PATH_MAX],
		     struct settings *settings);

// Sets *target to where another process's log writes its lines. record: a copy of that process's
// record. Returns false if that process's log is not open.
bool record_log_in_use(const struct xsaveshim_record *record, enum log_target *target);

#endif
