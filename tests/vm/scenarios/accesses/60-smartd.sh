# smartd: it watches a disk without the disk.
. "$PAYLOAD/guest/withhold.sh"
echo '/dev/nvme0 -a -d nvme' >/etc/smartd.conf
works() { systemctl is-active smartmontools.service; }
machine="ConditionVirtualization="
echo "[Unit]
$machine" | unit smartmontools.service.d/10-machine.conf
systemctl daemon-reload
withhold smartmontools.service works PrivateDevices PrivateDevices=yes
finish
