"""emt inside other programs: one small file each, imported only by the program that it is for."""
