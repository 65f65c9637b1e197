package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/cloudinaryhook/cloudinaryhook"
	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

func runToken(_ context.Context, p *process, args []string) error {
	flags := flag.NewFlagSet("token", flag.ContinueOnError)
	claims := flags.String("claims", "", "the token's claims, as a `JSON` object such as {\"album_id\":\"7\"}")
	expires := flags.Duration("expires", 2*time.Hour, "the `duration` after which the token expires, unless the claims have exp; 0: never")
	endpoint := flags.String("endpoint", "", "print the notification URL for the receiver at this `URL`, not the token alone")
	check := flags.Bool("check", false, "read a token, or a URL that has one, from standard input and show its content")
	if err := p.parse(flags, "", args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return usagef("token takes no arguments; -check reads the token from standard input")
	case *check:
		return p.checkToken()
	case *claims == "":
		return usagef(`-claims is missing, for example -claims '{"album_id":"7"}'; {} means no claims`)
	case hasToken(*endpoint):
		return usagef("-endpoint has a token already: give the receiver's URL without one. To see a token's content, use -check")
	case *expires < 0:
		return usagef("-expires is negative")
	}
	set, err := parseClaims(*claims)
	if err != nil {
		return err
	}
	key, err := p.tokenKey()
	if err != nil {
		return err
	}
	set.expire(*expires)
	result, err := signURL(key, set, *endpoint)
	if err != nil {
		return inFlag("-endpoint", err)
	}
	_, err = fmt.Fprintln(p.stdout, result)
	return err
}

// signURL returns a token, or with an endpoint a notification URL.
func signURL(key []byte, claims claimSet, endpoint string) (string, error) {
	token, err := cloudinaryhook.SignToken(key, claims)
	if err != nil || endpoint == "" {
		return token, err
	}
	return cloudinaryhook.NotificationURL(endpoint, token)
}

// checkToken never prints the token itself. Its claims alone are not a
// credential.
func (p *process) checkToken() error {
	input, err := io.ReadAll(io.LimitReader(p.stdin, 1<<20))
	if err != nil {
		return err
	}
	query := tokenQuery(strings.TrimSpace(string(input)))
	if query == "" {
		return usagef("there is no token on standard input")
	}
	keys, err := secrets.LookupAll(p.getenv, keyVariable)
	if err != nil {
		return err
	}
	values, _ := url.ParseQuery(query) // shows the parts that it can read
	token := values.Get("token")
	if t, ok := readToken(token); ok && len(token) <= maxToken {
		fmt.Fprintf(p.stdout, "header %s\nclaims %s\n", readable(t.header), readable(t.payload))
		for _, name := range []string{"iat", "nbf", "exp"} {
			if at := t.claims.date(name); !at.IsZero() {
				fmt.Fprintf(p.stdout, "%s: %s, %s\n", name, at.Format(time.RFC3339), relative(at, time.Now()))
			}
		}
		fmt.Fprintln(p.stdout)
	}
	x := &examination{keys: keys, at: time.Now()}
	if err := x.examineToken(query); err != nil {
		fmt.Fprintf(p.stdout, "Refused: %s.\n", reason(err))
		x.report(p.stdout)
		return errSilent
	}
	fmt.Fprintln(p.stdout, "The token is accepted: a key of this environment has signed it.")
	return nil
}

// tokenQuery returns the query of a URL. If the input is a token, it makes a
// query of it.
func tokenQuery(input string) string {
	if _, query, ok := strings.Cut(input, "?"); ok || input == "" {
		return query
	}
	return "token=" + input
}
