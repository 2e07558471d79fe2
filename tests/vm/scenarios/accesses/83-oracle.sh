# The rows of tests/access_oracle.rs, part 3 of 4.
. "$PAYLOAD/guest/oracle.sh"
rows 3/4
finish
