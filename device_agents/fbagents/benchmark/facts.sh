# What a device tells of itself, as lines of a word and its values; $1 is the folder of its files if that is not /sys.
sys=${1:-/sys}; proc=$sys/../proc
echo "machine $(uname -m)"
echo "system $(uname -s) $(uname -r) $(uname -m)"
if command -v getprop >/dev/null; then
  for name in ro.product.manufacturer ro.product.model ro.soc.manufacturer ro.soc.model ro.board.platform ro.hardware \
    ro.build.version.release ro.build.id; do
    echo "$name $(getprop "$name")"
  done
fi 2>/dev/null
[ -r "$proc/device-tree/model" ] && echo "board $(tr -d '\0' <"$proc/device-tree/model")"
sed -n -e 's/^model name[[:space:]]*: */soc /p' -e 's/^Hardware[[:space:]]*: */soc /p' \
  -e 's/^Model[[:space:]]*: */soc /p' /proc/cpuinfo 2>/dev/null | head -n 1
sed -n -e 's/^processor[[:space:]]*: */processor /p' -e 's/^CPU implementer[[:space:]]*: */implementer /p' \
  -e 's/^CPU part[[:space:]]*: */part /p' "$proc/cpuinfo" 2>/dev/null
number() { value=; { read -r value <"$1"; } 2>/dev/null; echo "${value:-$2}"; }
for cpu in "$sys"/devices/system/cpu/cpu[0-9]*; do
  echo "core ${cpu##*/cpu} $(number "$cpu/online" 1) $(number "$cpu/cpufreq/cpuinfo_max_freq" 0)" \
    "$(number "$cpu/cpu_capacity" 0) $(number "$cpu/regs/identification/midr_el1" 0)"
done
true
