# chrony: a time server that may not set the time, and one without its clock.
. "$PAYLOAD/guest/withhold.sh"
installed chrony
works() { says "^Reference ID" chronyc tracking; }
withhold chrony.service works CapabilityBoundingSet CapabilityBoundingSet=~CAP_SYS_TIME
sed -i "/^rtcsync/d" /etc/chrony/chrony.conf
printf 'rtcfile /var/lib/chrony/rtc\nrtcdevice /dev/rtc0\n' >/etc/chrony/conf.d/rtc.conf
reads_clock() { says "^RTC ref time" chronyc rtcdata; }
withhold chrony.service reads_clock PrivateDevices PrivateDevices=yes
finish
