from vemcompress.cli import main

main()
