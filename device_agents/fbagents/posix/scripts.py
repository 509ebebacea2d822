"""Scripts that run on a device: constants, which get what comes from a profile or a file as "$1", "$2", …, unparsed."""

PREPARE = """
umask 077
mkdir -p -- "$1" || exit
find "$1" -maxdepth 1 -type d -name 'fbnet-lab-????????????????' -mtime +6 -exec rm -r -- {} +
[ -d "$2" ] || mkdir -m 700 -- "$2" || exit
uname -s; uname -m
"""
HASH = """
hash() {
  if command -v openssl >/dev/null; then openssl dgst -sha256 -r
  elif command -v sha256sum >/dev/null; then sha256sum
  else shasum -a 256; fi
}
has_hash() { case $(hash <"$1") in "$2 "*) ;; *) false ;; esac }
"""
"""OpenSSL has the processor's own SHA-256; the `sha256sum` of a Linux board may take ten times as long."""
CHECK = HASH + '[ -f "$1" ] && has_hash "$1" "$2"'
UPLOAD = (
    HASH
    + """
umask 077
part=$1.$$.part
cat >"$part" || { rm -f -- "$part"; exit 3; }
has_hash "$part" "$2" || { rm -f -- "$part"; exit 4; }
{ [ "$3" = 600 ] || chmod "$3" "$part"; } && mv -f -- "$part" "$1" || exit 3
"""
)
DAMAGED = 4
MISSING = (
    HASH
    + """
umask 077
folder=$1; shift
mkdir -p -- "$folder" || exit
while [ $# -gt 0 ]; do
  { [ -f "$folder/$1" ] && has_hash "$folder/$1" "$2"; } || echo "$1"
  shift 2
done
"""
)
"""Prints which files of a folder are not there whole."""
START = """
umask 077
pid=$1; shift
if [ -s "$pid" ]; then
  old=$(cat "$pid")
  command=$({ tr '\\0' ' ' <"/proc/$old/cmdline" || ps -o args= -p "$old"; } 2>/dev/null)
  case $command in *"${pid%/*}"*) kill -KILL "$old" ;; esac
  rm -f -- "$pid"
fi
unset LD_PRELOAD LD_LIBRARY_PATH
while [ "$1" != -- ]; do export "$1"; shift; done
shift
exec 3<&0
"$@" <&3 3<&- &
echo $! >"$pid"
wait $!
"""
"""Ends an agent that a broken connection left behind, and stays beside the new one to tell how it ends."""
REMOVE = 'rm -rf -- "$@"'
