# The rows of tests/access_oracle.rs, part 1 of 4.
. "$PAYLOAD/guest/oracle.sh"
rows 1/4
finish
