#!/usr/bin/env bash
# Prints the man page pihook.toml(5). Its list of settings is made from the comments of pihook.toml.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

cat <<'END'
.Dd November 25, 2026
.Dt PIHOOK.TOML 5
.Os
.Sh NAME
.Nm pihook.toml
.Nd settings of pihook
.Sh DESCRIPTION
.Nm
holds the settings of
.Xr pihook 1
in the format TOML.
.Cm pihook check
finds what is wrong with them and prints those that count.
After a change, restart the bot:
.Pp
.Dl # systemctl restart pihook
.Pp
These settings stand above the first
.Li [[bot]] ,
each with its default or an example:
.Bl -tag -width Ds
END

# A block is a comment and the settings below it, up to an empty line. The first block is about the file, and is left out.
awk '
function escaped(text) { gsub(/\\/, "\\e", text); gsub(/"/, "\\(dq", text); return text }
# mdoc wants each sentence on a line of its own, and no long lines.
function print_text(    words, count, i, line) {
    count = split(text, words, " ")
    for (i = 1; i <= count; i++) {
        sub(/^\./, "\\\\\\&.", words[i])
        if (line ~ /[.:]$/ || length(line words[i]) > 76) { print line; line = "" }
        line = line (line == "" ? "" : " ") words[i]
    }
    if (line != "") print line
    text = ""
}
function end_block(    i) {
    for (i = 1; i <= settings; i++) print ".It Li " setting[i]
    if (settings) print_text()
    settings = 0; text = ""
}
/^$/ { end_block(); next }
/^\[\[bot\]\]$/ { print ".El\n.Pp\nThese stand below\n.Li [[bot]] ."; print_text(); print ".Bl -tag -width Ds"; next }
/^(# )?[a-z_]+ = / { sub(/^# /, ""); setting[++settings] = escaped($0); next }
/^# / { text = text escaped(substr($0, 2)) }
END { end_block(); print ".El" }
' "$here/pihook.toml"

cat <<'END'
.Sh FILES
.Bl -tag -width Ds
.It Pa /etc/pihook/pihook.toml
The settings that
.Cm pihook init
writes.
.It Pa /usr/share/doc/pihook/examples/pihook.toml
All settings with their comments.
.El
.Sh SEE ALSO
.Xr pihook 1
END
