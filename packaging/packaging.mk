# SPDX-License-Identifier: MIT
# What is installed beside the library and the command: settings and libvirt's part. And packages.
SBINDIR ?= $(PREFIX)/sbin
FILL_IN = sed -e 's,@LIBDIR@,$(LIBDIR),' -e 's,@DATADIR@,$(DATADIR),'

install: install-libvirt
uninstall: uninstall-libvirt

.PHONY: install-libvirt uninstall-libvirt
install-libvirt:
	@install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(DATADIR)/libvirt $(DESTDIR)/etc
	@$(FILL_IN) scripts/libvirt >$(DESTDIR)$(SBINDIR)/xsaveshim-libvirt
	@chmod 0755 $(DESTDIR)$(SBINDIR)/xsaveshim-libvirt
	@$(FILL_IN) libvirt/drop-in.conf >$(DESTDIR)$(DATADIR)/libvirt/drop-in.conf
	@install -m 0644 libvirt/apparmor $(DESTDIR)$(DATADIR)/libvirt/apparmor
	@install -D -m 0644 man/xsaveshim.conf.5 $(DESTDIR)$(MANDIR)/man5/xsaveshim.conf.5
	@install -D -m 0644 man/xsaveshim-libvirt.8 $(DESTDIR)$(MANDIR)/man8/xsaveshim-libvirt.8
	@test -e $(DESTDIR)/etc/xsaveshim.conf || install -m 0644 libvirt/xsaveshim.conf $(DESTDIR)/etc/xsaveshim.conf

# Settings that somebody has changed stay.
uninstall-libvirt:
	@rm -f $(DESTDIR)$(SBINDIR)/xsaveshim-libvirt $(DESTDIR)$(MANDIR)/man5/xsaveshim.conf.5 \
		$(DESTDIR)$(MANDIR)/man8/xsaveshim-libvirt.8
	@rm -rf $(DESTDIR)$(DATADIR)/libvirt
	@! cmp -s libvirt/xsaveshim.conf $(DESTDIR)/etc/xsaveshim.conf || rm $(DESTDIR)/etc/xsaveshim.conf
