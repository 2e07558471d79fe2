# postgrey: a service in Perl that drops root.
. "$PAYLOAD/guest/tighten.sh"
installed postgrey
works() {
    says "^action=" port 10023 request=smtpd_access_policy protocol_state=RCPT client_address=192.0.2.1 \
        client_name=mail.example sender=a@example recipient=b@localhost ""
}
tighten postgrey.service works
finish
