module github.com/cloudinaryhook/cloudinaryhook/sqlstore

go 1.26

require github.com/cloudinaryhook/cloudinaryhook v0.1.0
