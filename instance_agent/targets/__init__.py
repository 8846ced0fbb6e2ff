"""The web servers a certificate can be installed on; each module is one server, and none imports Azure or another."""
