package main

import (
	"fmt"
	"net/url"

	"github.com/cloudinaryhook/cloudinaryhook/internal/secrets"
)

// Names of variables.
const (
	secretVariable = secrets.APISecret
	apiKeyVariable = "CLOUDINARY_API_KEY" //nolint:gosec // a variable's name
	cloudVariable  = "CLOUDINARY_CLOUD_NAME"
	urlVariable    = "CLOUDINARY_URL"
	keyVariable    = secrets.TokenKey
	previousSuffix = secrets.PreviousSuffix
	fileSuffix     = secrets.FileSuffix
)

// A named value says where it came from, and so a message can name it without
// showing it.
type named struct{ name, value string }

// values are those of several.
func values(all []named) []string {
	var values []string
	for _, n := range all {
		values = append(values, n.value)
	}
	return values
}

// lookup returns a variable's value, or what is in the file that the variable
// with _FILE at its end names. It trims nothing: the receiver does not either,
// and here is where people look for the difference.
func (p *process) lookup(name string) (named, error) {
	v, err := secrets.Lookup(p.getenv, name)
	return named{v.From, v.Value}, err
}

// lookupAll returns the value of name and the one before it, as far as they are
// set, newest first.
func (p *process) lookupAll(name string) ([]named, error) {
	values, err := secrets.LookupAll(p.getenv, name)
	var all []named
	for _, v := range values {
		all = append(all, named{v.From, v.Value})
	}
	return all, err
}

// An account is a product environment, as Cloudinary's console shows it. Values
// that are not set are empty.
type account struct {
	cloud   string
	apiKey  string
	secrets []named // newest first
}

// account reads what is set. A variable of its own counts more than its part of
// CLOUDINARY_URL.
func (p *process) account() (account, error) {
	secrets, err := p.lookupAll(secretVariable)
	if err != nil {
		return account{}, err
	}
	a := account{p.getenv(cloudVariable), p.getenv(apiKeyVariable), secrets}
	text := p.getenv(urlVariable)
	if text == "" {
		return a, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "cloudinary" || u.Host == "" || u.User == nil { // without err, which quotes it
		return account{}, fmt.Errorf("%s is not of the form cloudinary://KEY:SECRET@CLOUD", urlVariable)
	}
	if a.cloud == "" {
		a.cloud = u.Host
	}
	if a.apiKey == "" {
		a.apiKey = u.User.Username()
	}
	if secret, ok := u.User.Password(); ok && p.getenv(secretVariable) == "" && p.getenv(secretVariable+fileSuffix) == "" {
		a.secrets = append([]named{{urlVariable, secret}}, a.secrets...)
	}
	return a, nil
}

// tokenKey returns the newest token key, with which tokens are signed.
func (p *process) tokenKey() ([]byte, error) {
	key, err := p.lookup(keyVariable)
	if err != nil {
		return nil, err
	}
	if key.value == "" {
		return nil, usagef("no token key: set %s to the receiver's", keyVariable)
	}
	return []byte(key.value), nil
}
