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

// An account is a product environment, as Cloudinary's console shows it. Values
// that are not set are empty.
type account struct {
	cloud   string
	apiKey  string
	secrets []secrets.Value // newest first
}

// account reads the environment. A separate variable wins over the same part of
// CLOUDINARY_URL.
func (p *process) account() (account, error) {
	apiSecrets, err := secrets.LookupAll(p.getenv, secretVariable)
	if err != nil {
		return account{}, err
	}
	a := account{p.getenv(cloudVariable), p.getenv(apiKeyVariable), apiSecrets}
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
		a.secrets = append([]secrets.Value{{From: urlVariable, Value: secret}}, a.secrets...)
	}
	return a, nil
}

// tokenKey returns the newest token key, with which tokens are signed.
func (p *process) tokenKey() ([]byte, error) {
	key, err := secrets.Lookup(p.getenv, keyVariable)
	if err != nil {
		return nil, err
	}
	if key.Value == "" {
		return nil, usagef("no token key: set %s to the receiver's", keyVariable)
	}
	return []byte(key.Value), nil
}
