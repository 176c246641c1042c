#!/bin/bash
# Boots a real systemd as PID 1 of its own namespaces, on an overlay of this machine's root file system.
# Called by realsystemd.py:  boot.sh CGROUP WORKDIR [SOURCE TARGET]...   (SOURCE is bound read-only on TARGET)
# What happens inside stays inside: the overlay's upper layer is a tmpfs, /proc/sys is read-only, the units that
# would set clocks, sysctls or devices are masked, and everything dies with the process that started this.
set -eu
cgroup=$1 work=$2
shift 2
echo $$ >"$cgroup/cgroup.procs"

# shellcheck disable=SC2016  # expanded by the inner shell, inside the namespaces
exec unshare --pid --mount --uts --ipc --cgroup --fork --kill-child --propagation private bash -euc '
work=$1; shift
mount -t tmpfs -o size=512m,mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/scratch" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
while [ $# -gt 0 ]; do
    mkdir -p "$work/root$2"
    mount --bind "$1" "$work/root$2"
    mount -o remount,bind,ro "$work/root$2"
    shift 2
done
cd "$work/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
[ ! -e proc/sysrq-trigger ] || mount --bind /dev/null proc/sysrq-trigger
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755,size=1m tmpfs dev
mkdir dev/pts dev/shm
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s /proc/self/fd dev/fd
hostname ferrytest
: >etc/machine-id
rm -rf etc/systemd/system var/lib/eventferry etc/eventferry
mkdir -p etc/systemd/system etc/systemd/journald.conf.d
for unit in systemd-sysctl systemd-timesyncd systemd-modules-load systemd-random-seed systemd-binfmt \
    systemd-udevd systemd-udev-trigger systemd-hwdb-update systemd-remount-fs systemd-machine-id-commit; do
    ln -s /dev/null "etc/systemd/system/$unit.service"
done
for unit in proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-udevd-control.socket systemd-udevd-kernel.socket; do
    ln -s /dev/null "etc/systemd/system/$unit"
done
printf "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n" >etc/systemd/journald.conf.d/test.conf
printf "[Unit]\nRequires=sysinit.target systemd-journald.service\nAfter=sysinit.target\nAllowIsolate=yes\n" \
    >etc/systemd/system/ferrytest.target
pivot_root . mnt
cd /
umount -l /mnt
mount --make-rshared /  # as systemd does on real machines; without it credentials are mounted where nobody sees them
exec env -i container=ferrytest PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog,-mknod \
    /lib/systemd/systemd --system --log-target=journal --unit=ferrytest.target
' boot "$work" "$@"
