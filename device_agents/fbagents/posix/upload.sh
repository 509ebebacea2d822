# Writes stdin, unpacked by the command $4 if there is one, to the file $1 of mode $3, which appears there whole, and
# only with the hash $2.
umask 077
part=$1.$$.part
${4:-cat} >"$part" || { rm -f -- "$part"; exit 3; }
has_hash "$part" "$2" || { rm -f -- "$part"; exit 4; }
{ [ "$3" = 600 ] || chmod "$3" "$part"; } && mv -f -- "$part" "$1" || exit 3
