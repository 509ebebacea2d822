# What a device tells of itself, as lines of a word and its values.
echo "machine $(uname -m)"
echo "system $(uname -s) $(uname -r) $(uname -m)"
sed -n -e 's/^model name[[:space:]]*: */soc /p' -e 's/^Hardware[[:space:]]*: */soc /p'   -e 's/^Model[[:space:]]*: */soc /p' /proc/cpuinfo 2>/dev/null | head -n 1
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
  on=1; [ -r "$cpu/online" ] && { read -r on <"$cpu/online" || on=1; } 2>/dev/null
  khz=0; file=$cpu/cpufreq/cpuinfo_max_freq
  [ -r "$file" ] && { read -r khz <"$file" || khz=0; } 2>/dev/null
  echo "core ${cpu##*/cpu} $on $khz"
done
true
