"""What the bootable image and the tests of the installed package are made of: Debian trees (tree.py)."""
