module github.com/cloudinaryhook/cloudinaryhook/examples

go 1.26

require github.com/cloudinaryhook/cloudinaryhook v0.0.0

replace github.com/cloudinaryhook/cloudinaryhook => ../
