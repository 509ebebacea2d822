# Prints which files of the folder $1 are not there whole, given as names and hashes, and "+gzip" where gzip is.
umask 077
folder=$1; shift
mkdir -p -- "$folder" || exit
if command -v gzip >/dev/null; then echo +gzip; fi
while [ $# -gt 0 ]; do
  { [ -f "$folder/$1" ] && has_hash "$folder/$1" "$2"; } || echo "$1"
  shift 2
done
