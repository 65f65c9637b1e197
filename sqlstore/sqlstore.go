// Package sqlstore keeps deliveries in a SQL database.
package sqlstore
