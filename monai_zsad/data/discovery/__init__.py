"""Finding scans: folders, archives, lists of scans, DICOMweb servers."""
