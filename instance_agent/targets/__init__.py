"""The web servers a certificate can be installed on, a folder for each; none imports Azure or another."""
