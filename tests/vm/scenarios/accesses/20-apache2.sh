# apache2: a web server that may not execute its scripts, and one that does not see its pages.
. "$PAYLOAD/guest/withhold.sh"
a2enmod -q cgid
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\nhello\\n"\n' >/usr/lib/cgi-bin/hello
chmod 755 /usr/lib/cgi-bin/hello
script() { says "^hello" port 80 "GET /cgi-bin/hello HTTP/1.0" ""; }
withhold apache2.service script NoExecPaths NoExecPaths=/usr/lib/cgi-bin
withhold apache2.service serves TemporaryFileSystem TemporaryFileSystem=/var/www
finish
