package main

import (
	"fmt"
	"net/url"
	"os"
)

// Names of variables. The token key's name is the same in all programs of this
// repository.
const (
	secretVariable = "CLOUDINARY_API_SECRET" //nolint:gosec // a variable's name
	apiKeyVariable = "CLOUDINARY_API_KEY"    //nolint:gosec // as above
	cloudVariable  = "CLOUDINARY_CLOUD_NAME"
	urlVariable    = "CLOUDINARY_URL"
	keyVariable    = "CLOUDINARYHOOK_TOKEN_KEY"

	// Rotation has names of its own, and not a list in one variable: a token key
	// may hold any byte, so no separator is safe.
	previousSuffix = "_PREVIOUS"
	fileSuffix     = "_FILE"
)

// A named value says where it came from, and so a message can name it without
// showing it.
type named struct{ name, value string }

// lookup returns a variable's value, or what is in the file that the variable
// with _FILE at its end names. It trims nothing: the receiver does not either,
// and here is where people look for the difference. The value is empty if
// neither variable is set.
func (p *process) lookup(name string) (named, error) {
	value, file := p.getenv(name), p.getenv(name+fileSuffix)
	switch {
	case file == "":
		return named{name, value}, nil
	case value != "":
		return named{}, fmt.Errorf("%s and %s are both set: unset one of them", name, name+fileSuffix)
	}
	content, err := os.ReadFile(file) //nolint:gosec // the user names the file
	if err != nil {
		return named{}, fmt.Errorf("%s%s: %w", name, fileSuffix, err)
	}
	return named{name + fileSuffix, string(content)}, nil
}

// lookupAll returns the value of name and the one before it, as far as they are
// set, newest first.
func (p *process) lookupAll(name string) ([]named, error) {
	var all []named
	for _, n := range []string{name, name + previousSuffix} {
		value, err := p.lookup(n)
		if err != nil {
			return nil, err
		}
		if value.value != "" {
			all = append(all, value)
		}
	}
	return all, nil
}

// An account is what Cloudinary's console shows of a product environment. What is
// not set is empty.
type account struct {
	cloud   string
	apiKey  string
	secrets []named // newest first
}

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
