# Clocks, temperatures and memory of a device now, as lines of a word and its values.
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  file=$cpu/cpufreq/scaling_cur_freq
  [ -e "$file" ] || continue
  [ -r "$file" ] || { echo denied freq_khz; continue; }
  { read -r value <"$file"; } 2>/dev/null && echo "freq ${cpu##*/cpu} $value"
done
for zone in /sys/class/thermal/thermal_zone* /sys/class/power_supply/*; do
  [ -e "$zone/temp" ] || continue
  [ -r "$zone/temp" ] || { echo denied temperature_c; continue; }
  kind=; [ -r "$zone/type" ] && { read -r kind <"$zone/type"; } 2>/dev/null
  { read -r value <"$zone/temp"; } 2>/dev/null && echo "temp ${zone#/sys/class/} $value $kind"
done
sed -n 's/^MemAvailable: *\([0-9]*\) kB.*/memory \1/p' /proc/meminfo 2>/dev/null
true
